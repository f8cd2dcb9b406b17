//! Q2_0: 64 values of 2 bits, one f16 scale. `value = scale * (quant - 1)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, repeated};
use crate::simd::{Nibbles, Simd};

pub(crate) struct Q2_0;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// Value i: bits 2(i % 4) and 2(i % 4) + 1 of byte i / 4.
    quants: [u8; 16],
}

impl BlockFormat for Q2_0 {
    type Block = Block;
    const ELEMENTS: usize = 64;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let quant = block.quants[i / 4] >> (2 * (i % 4)) & 3;
            *value = (f32::from(quant) - 1.0) * block.scale.to_f32();
        }
    }
}

impl PackedFormat for Q2_0 {
    type Unit = [Block; 4];
    type Unpacked = Unpacked<Nibbles, 32, 1>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Self::Unit, vector: usize) -> S::Bytes {
        // Each eight quants are spread to bytes.
        let mut words = [0; 8];
        for (word, eight) in words.iter_mut().zip(unit[vector].quants.as_chunks().0) {
            let wide = u64::from(u16::from_le_bytes(*eight));
            let wide = (wide | wide << 24) & 0x0000_00ff_0000_00ff;
            let wide = (wide | wide << 12) & 0x000f_000f_000f_000f;
            *word = (wide | wide << 6) & 0x0303_0303_0303_0303;
        }
        simd.words(words)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Self::Unit) -> S::Floats {
        repeated(simd, unit.map(|block| block.scale))
    }
}
