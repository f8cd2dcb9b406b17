//! Q4_K: 256 values of 4 bits, a 6-bit scale and min per 32. `value = scale * quant - min`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, Mins, Order, QuantFormat, k_scales, nibbles, part};
use crate::simd::{Nibbles, Simd};

pub(crate) struct Q4_K;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    pub(super) scale: Half,
    pub(super) min: Half,
    pub(super) scales: [u8; 12],
    /// Values 64n + i: low nibble of byte 32n + i; values 64n + 32 + i: its high nibble.
    pub(super) quants: [u8; 128],
}

impl BlockFormat for Q4_K {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        let quant = |i: usize| block.quants[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2)) & 15;
        k_scales::dequantize(block.scale, block.min, &block.scales, quant, values);
    }
}

impl QuantFormat for Q4_K {
    type Unit = Block;
    type Quants = Nibbles;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const MINS: Mins = Mins::Subtracted;
    const ORDER: Order = Order::EvenBlocks;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, half: usize) -> [S::Bytes; 2] {
        nibbles(simd, simd.load_bytes(part(&unit.quants, 64 * half)))
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        k_scales::scales_and_mins(simd, [unit.scale, unit.min], &unit.scales)
    }
}
