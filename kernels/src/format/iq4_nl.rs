//! IQ4_NL: 32 values of 4 bits that number the entries of a table, one f16 scale.
//! `value = scale * TABLE[quant]`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, Mins, Order, QuantFormat, nibble, nibbles_of_four, part};
use crate::simd::{Signed, Simd};

/// `kvalues_iq4nl`: closer to each other around zero, where most weights are.
pub(super) const TABLE: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

pub(crate) struct IQ4_NL;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// Low nibbles: values 0..16; high nibbles: values 16..32.
    quants: [u8; 16],
}

impl BlockFormat for IQ4_NL {
    type Block = Block;
    const ELEMENTS: usize = 32;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let nibble = nibble(&block.quants, i);
            *value = f32::from(TABLE[usize::from(nibble)]) * block.scale.to_f32();
        }
    }
}

impl QuantFormat for IQ4_NL {
    type Unit = [Block; 8];
    type Quants = Signed;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const MINS: Mins = Mins::None;
    const ORDER: Order = Order::LowHalves;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, half: usize) -> [S::Bytes; 2] {
        let [a, b, c, d]: &[Block; 4] = part(unit, 4 * half);
        let [low, high] = nibbles_of_four(simd, [&a.quants, &b.quants, &c.quants, &d.quants]);
        [simd.lookup(&TABLE, low), simd.lookup(&TABLE, high)]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        simd.strided_f16::<{ size_of::<Block>() }, false>(bytemuck::bytes_of(unit))
    }
}
