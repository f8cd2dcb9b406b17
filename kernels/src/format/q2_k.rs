//! Q2_K: 256 values of 2 bits, a 4-bit scale and min per 16. `value = scale * quant - min`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, Mins, Order, QuantFormat, part};
use crate::simd::{Nibbles, Simd};

pub(crate) struct Q2_K;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// Of each 16 values: scale in the low nibble, min in the high one.
    pub(super) scales: [u8; 16],
    /// Values 128n + 32j + i: bits 2j and 2j + 1 of byte 32n + i.
    pub(super) quants: [u8; 64],
    pub(super) scale: Half,
    pub(super) min: Half,
}

impl BlockFormat for Q2_K {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let quant = block.quants[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
            let scale = block.scale.to_f32() * f32::from(block.scales[i / 16] & 15);
            let min = block.min.to_f32() * f32::from(block.scales[i / 16] >> 4);
            *value = scale * f32::from(quant) - min;
        }
    }
}

impl QuantFormat for Q2_K {
    type Unit = Block;
    type Quants = Nibbles;
    const SUB: usize = 16;
    const OFFSET: i32 = 0;
    const MINS: Mins = Mins::Subtracted;
    const ORDER: Order = Order::Sequential;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, half: usize) -> [S::Bytes; 2] {
        let bits = part(&unit.quants, 32 * half);
        [
            simd.field(simd.shift_halves(bits, [0, 2]), 0, 3),
            simd.field(simd.shift_halves(bits, [4, 6]), 0, 3),
        ]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        let scales = unit.scales.map(|byte| byte & 15);
        simd.mul(simd.floats_of_u8(scales), simd.splat_f16(unit.scale.bits()))
    }

    #[inline(always)]
    fn mins<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        let mins = unit.scales.map(|byte| byte >> 4);
        simd.mul(simd.floats_of_u8(mins), simd.splat_f16(unit.min.bits()))
    }
}
