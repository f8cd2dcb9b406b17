//! Q4_1: 32 values of 4 bits, an f16 scale and an f16 min. `value = scale * quant + min`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, QuantFormat, halves, nibble};
use crate::simd::{Nibbles, Simd};

pub(crate) struct Q4_1;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    pub(super) scale: Half,
    pub(super) min: Half,
    /// Low nibbles: values 0..16; high nibbles: values 16..32.
    pub(super) quants: [u8; 16],
}

impl BlockFormat for Q4_1 {
    type Block = Block;
    const ELEMENTS: usize = 32;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let nibble = nibble(&block.quants, i);
            *value = f32::from(nibble) * block.scale.to_f32() + block.min.to_f32();
        }
    }
}

impl QuantFormat for Q4_1 {
    type Unit = [Block; 8];
    type Quants = Nibbles;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const HAS_MINS: bool = true;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, chunk: usize) -> S::Bytes {
        simd.split_nibbles(&unit[2 * chunk].quants, &unit[2 * chunk + 1].quants)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        halves(simd, unit, |block| block.scale)
    }

    #[inline(always)]
    fn mins<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        // The file's min is added; a `QuantFormat`'s is subtracted.
        simd.sub(simd.splat(0.0), halves(simd, unit, |block| block.min))
    }
}
