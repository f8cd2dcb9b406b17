//! IQ1_M: 256 values, groups of eight from a grid of 2048, each shifted to either side, a 3-bit scale
//! per 16. `value = scale * (quant - 16)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, grid, odd_scales};
use crate::simd::{Simd, SixBits};

pub(crate) struct IQ1_M;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// Eight low bits of the groups in the grid.
    low: [u8; 32],
    /// Of group j nibble j % 2 of byte j / 2: three high bits, and whether it is shifted down, not up.
    high: [u8; 16],
    /// Of 64 values. Scale j: bits 3j to 3j + 2. A nibble of the block's f16 scale: bits 12 to 15.
    scales: [[u8; 2]; 4],
}

impl Block {
    #[inline(always)]
    fn scale(&self) -> Half {
        let mut scale = 0;
        for (i, scales) in self.scales.iter().enumerate() {
            scale |= u16::from(scales[1] >> 4) << (4 * i);
        }
        Half(scale.to_le_bytes())
    }

    /// Scale `index` (0..16).
    #[inline(always)]
    fn sub_scale(&self, index: usize) -> u8 {
        (u16::from_le_bytes(self.scales[index / 4]) >> (3 * (index % 4)) & 7) as u8
    }

    /// Group `j` (0..32) with its shift.
    #[inline(always)]
    fn group(&self, j: usize) -> u64 {
        let high = usize::from(self.high[j / 2] >> (4 * (j % 2)) & 15);
        grid::shifted(usize::from(self.low[j]) | (high & 7) << 8, high >> 3 == 1)
    }
}

impl BlockFormat for IQ1_M {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, values) in values.chunks_exact_mut(8).enumerate() {
            let scale = block.scale().to_f32() * f32::from(2 * block.sub_scale(i / 2) + 1);
            grid::dequantize_shifted(block.group(i), scale, values);
        }
    }
}

impl PackedFormat for IQ1_M {
    type Unit = Block;
    type Unpacked = Unpacked<SixBits, 16, 16>;

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
            *scale = unit.sub_scale(i);
        }
        odd_scales(simd, bytemuck::cast(scales), unit.scale(), 0.125)
    }
}
