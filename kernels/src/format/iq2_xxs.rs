//! IQ2_XXS: 256 values, groups of eight from a grid of 256 with an even number of signs, a 4-bit scale
//! per 32. `value = scale * (quant - 64)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, grid, odd_scales, part, signs};
use crate::simd::{SevenBits, Simd};

pub(crate) struct IQ2_XXS;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    parts: [Part; 8],
}

/// 32 values.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Part {
    /// In the grid.
    groups: [u8; 4],
    /// Signs of group j: bits 7j to 7j + 6. The scale: bits 28 to 31.
    signs: [u8; 4],
}

impl Part {
    #[inline(always)]
    fn signs(&self) -> u32 {
        u32::from_le_bytes(self.signs)
    }
}

impl BlockFormat for IQ2_XXS {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, values) in values.chunks_exact_mut(8).enumerate() {
            let part = block.parts[i / 4];
            let scale = block.scale.to_f32() * (0.5 + (part.signs() >> 28) as f32) * 0.25;
            let signs = signs::even(signs::spread([part.signs(), 0])) >> (8 * (i % 4));
            let group = grid::IQ2_XXS[usize::from(part.groups[i % 4])];
            grid::dequantize(group, signs as u8, scale, values);
        }
    }
}

impl PackedFormat for IQ2_XXS {
    type Unit = Block;
    type Unpacked = Unpacked<SevenBits, 32, 64>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, vector: usize) -> S::Bytes {
        let [first, second]: &[Part; 2] = part(&unit.parts, 2 * vector);
        let mut groups = [0; 8];
        for i in 0..4 {
            groups[i] = grid::IQ2_XXS[usize::from(first.groups[i])];
            groups[4 + i] = grid::IQ2_XXS[usize::from(second.groups[i])];
        }
        let signs = signs::even(signs::spread([first.signs(), second.signs()]));
        simd.around(64, simd.words(groups), signs)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        let mut scales = [0; 16];
        for (i, scale) in scales.iter_mut().enumerate() {
            *scale = unit.parts[i % 8].signs[3] >> 4;
        }
        odd_scales(simd, bytemuck::cast(scales), unit.scale, 0.125)
    }
}
