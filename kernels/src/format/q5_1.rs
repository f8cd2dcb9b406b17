//! Q5_1: 32 values of 5 bits, an f16 scale and an f16 min. `value = scale * quant + min`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, Mins, Order, QuantFormat, nibble, nibbles_of_four, part};
use crate::simd::{FiveBits, Simd};

pub(crate) struct Q5_1;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    pub(super) scale: Half,
    pub(super) min: Half,
    /// Bit `i` is the fifth bit of quant `i`.
    pub(super) high: [u8; 4],
    /// Low nibbles: values 0..16; high nibbles: values 16..32.
    pub(super) quants: [u8; 16],
}

impl BlockFormat for Q5_1 {
    type Block = Block;
    const ELEMENTS: usize = 32;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let nibble = nibble(&block.quants, i);
            let quant = nibble + (u32::from_le_bytes(block.high) >> i & 1) as u8 * 16;
            *value = f32::from(quant) * block.scale.to_f32() + block.min.to_f32();
        }
    }
}

impl QuantFormat for Q5_1 {
    type Unit = [Block; 8];
    type Quants = FiveBits;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const MINS: Mins = Mins::Added;
    const ORDER: Order = Order::LowHalves;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, half: usize) -> [S::Bytes; 2] {
        let [a, b, c, d]: &[Block; 4] = part(unit, 4 * half);
        let nibbles = nibbles_of_four(simd, [&a.quants, &b.quants, &c.quants, &d.quants]);
        simd.add_bits(nibbles, [&a.high, &b.high, &c.high, &d.high], 16)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        simd.strided_f16::<{ size_of::<Block>() }, true>(bytemuck::bytes_of(unit))
    }
}
