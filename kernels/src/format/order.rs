//! In which order the kernels read the values of a unit.

use super::UNIT;

/// Half a unit: what two vectors hold.
pub(crate) const HALF: usize = UNIT / 2;

/// The order in which two vectors hold the 128 values of half a unit, in groups of 16.
///
/// It follows from how the file packs the values: the low bits of some bytes are one vector, the
/// high bits of the same bytes the other one, and nothing has to change its lane. The activations
/// are put into the same order instead, once for all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As they come.
    Sequential,
    /// The low halves of four blocks of 32, then their high halves: blocks whose byte `i` holds the
    /// values `i` and `16 + i`.
    LowHalves,
    /// Blocks 0 and 2 of 32, then blocks 1 and 3: 32 bytes that hold the values `i` and `32 + i`.
    EvenBlocks,
}

impl Order {
    pub(crate) const ALL: [Order; 3] = [Order::Sequential, Order::LowHalves, Order::EvenBlocks];

    /// Which 16 values of the half the 16 bytes of each quarter of the two vectors hold.
    pub(crate) const fn sixteens(self) -> [usize; HALF / 16] {
        match self {
            Order::Sequential => [0, 1, 2, 3, 4, 5, 6, 7],
            Order::LowHalves => [0, 2, 4, 6, 1, 3, 5, 7],
            Order::EvenBlocks => [0, 1, 4, 5, 2, 3, 6, 7],
        }
    }
}
