//! IQ1_S: 256 values, groups of eight from a grid of 2048, a 3-bit scale and a shift to either side per
//! 32. `value = scale * (quant - 16)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, grid, odd_scales};
use crate::simd::{FiveBits, Simd};

pub(crate) struct IQ1_S;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// Eight low bits of the groups in the grid.
    low: [u8; 32],
    /// Of 32 values. Three high bits of group j: bits 3j to 3j + 2. The scale: bits 12 to 14. Whether the
    /// values are shifted down, not up: bit 15.
    high: [[u8; 2]; 8],
}

impl Block {
    #[inline(always)]
    fn high(&self, part: usize) -> u16 {
        u16::from_le_bytes(self.high[part])
    }

    /// Group `j` (0..32) with its shift.
    #[inline(always)]
    fn group(&self, j: usize) -> u64 {
        let high = usize::from(self.high(j / 4));
        let group = usize::from(self.low[j]) | (high >> (3 * (j % 4)) & 7) << 8;
        grid::shifted(group, high >> 15 == 1)
    }
}

impl BlockFormat for IQ1_S {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, values) in values.chunks_exact_mut(8).enumerate() {
            let sub_scale = block.high(i / 4) >> 12 & 7;
            let scale = block.scale.to_f32() * f32::from(2 * sub_scale + 1);
            grid::dequantize_shifted(block.group(i), scale, values);
        }
    }
}

impl PackedFormat for IQ1_S {
    type Unit = Block;
    type Unpacked = Unpacked<FiveBits, 32, 16>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, vector: usize) -> S::Bytes {
        let mut groups = [0; 8];
        for (i, group) in groups.iter_mut().enumerate() {
            *group = unit.group(8 * vector + i);
        }
        simd.single_words(groups)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        let mut scales = [0; 16];
        for (i, scale) in scales.iter_mut().enumerate() {
            *scale = unit.high[i % 8][1] >> 4 & 7;
        }
        odd_scales(simd, bytemuck::cast(scales), unit.scale, 0.125)
    }
}
