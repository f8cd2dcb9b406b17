//! Q8_0: 32 values of 8 bits, one f16 scale. `value = scale * quant`, the quants signed.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, QuantFormat, halves};
use crate::simd::{Signed, Simd};

pub(crate) struct Q8_0;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    pub(super) scale: Half,
    pub(super) quants: [u8; 32],
}

impl BlockFormat for Q8_0 {
    type Block = Block;
    const ELEMENTS: usize = 32;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (value, quant) in values.iter_mut().zip(block.quants) {
            *value = f32::from(quant as i8) * block.scale.to_f32();
        }
    }
}

impl QuantFormat for Q8_0 {
    type Unit = [Block; 8];
    type Quants = Signed;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const HAS_MINS: bool = false;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, chunk: usize) -> S::Bytes {
        simd.join(&unit[2 * chunk].quants, &unit[2 * chunk + 1].quants)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        halves(simd, unit, |block| block.scale)
    }
}
