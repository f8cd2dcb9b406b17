//! IQ3_XXS: 256 values, groups of four from a grid of 256, an even number of signs per eight, a 4-bit
//! scale per 32. `value = scale * (quant - 64)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, grid, odd_scales, part, signs};
use crate::simd::{SevenBits, Simd};

pub(crate) struct IQ3_XXS;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// In the grid.
    groups: [u8; 64],
    /// Of 32 values. Signs of eight j: bits 7j to 7j + 6. The scale: bits 28 to 31.
    signs: [[u8; 4]; 8],
}

impl BlockFormat for IQ3_XXS {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, values) in values.chunks_exact_mut(8).enumerate() {
            let bits = u32::from_le_bytes(block.signs[i / 4]);
            let scale = block.scale.to_f32() * (0.5 + (bits >> 28) as f32) * 0.5;
            let signs = signs::even(signs::spread([bits, 0])) >> (8 * (i % 4));
            let [low, high] = [2 * i, 2 * i + 1].map(|j| usize::from(block.groups[j]));
            let group = grid::IQ3_XXS[low] | grid::IQ3_XXS[high] << 32;
            grid::dequantize(group, signs as u8, scale, values);
        }
    }
}

impl PackedFormat for IQ3_XXS {
    type Unit = Block;
    type Unpacked = Unpacked<SevenBits, 32, 64>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, vector: usize) -> S::Bytes {
        let numbers: &[u8; 16] = part(&unit.groups, 16 * vector);
        let mut pairs = [0; 8];
        for (i, pair) in pairs.iter_mut().enumerate() {
            let [low, high] = [usize::from(numbers[2 * i]), usize::from(numbers[2 * i + 1])];
            *pair = grid::IQ3_XXS[low] | grid::IQ3_XXS[high] << 32;
        }
        let [first, second]: &[_; 2] = part(&unit.signs, 2 * vector);
        let signs = [u32::from_le_bytes(*first), u32::from_le_bytes(*second)];
        simd.around(
            64,
            simd.single_words(pairs),
            signs::even(signs::spread(signs)),
        )
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        let mut scales = [0; 16];
        for (i, scale) in scales.iter_mut().enumerate() {
            *scale = unit.signs[i % 8][3] >> 4;
        }
        odd_scales(simd, bytemuck::cast(scales), unit.scale, 0.25)
    }
}
