//! Q1_0: 128 values of one bit, one f16 scale. `value = scale` where the bit is set, else `-scale`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, part, repeated};
use crate::simd::{Nibbles, Simd};

pub(crate) struct Q1_0;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// Value i: bit i % 8 of byte i / 8.
    bits: [u8; 16],
}

impl BlockFormat for Q1_0 {
    type Block = Block;
    const ELEMENTS: usize = 128;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let scale = block.scale.to_f32();
            let is_set = block.bits[i / 8] >> (i % 8) & 1 == 1;
            *value = if is_set { scale } else { -scale };
        }
    }
}

impl PackedFormat for Q1_0 {
    type Unit = [Block; 2];
    type Unpacked = Unpacked<Nibbles, 32, 1>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, vector: usize) -> S::Bytes {
        let bits = u64::from_le_bytes(*part(&unit[vector / 2].bits, 8 * (vector % 2)));
        simd.around(1, simd.load_bytes(&[1; 64]), !bits)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        repeated(simd, [unit[0].scale, unit[1].scale])
    }
}
