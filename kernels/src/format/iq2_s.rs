//! IQ2_S: 256 values, groups of eight from a grid of 1024 with any signs, a 4-bit scale per 16.
//! `value = scale * (quant - 64)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, grid, nibble_scales, part};
use crate::simd::{SevenBits, Simd};

pub(crate) struct IQ2_S;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// Eight low bits of the groups in the grid.
    low: [u8; 32],
    /// Sign of value 8j + i: bit i of byte j.
    signs: [u8; 32],
    /// Two high bits of group j: bits 2(j % 4) and 2(j % 4) + 1 of byte j / 4.
    high: [u8; 8],
    /// Scale j: nibble j % 2 of byte j / 2.
    scales: [u8; 8],
}

impl Block {
    /// Group `j` (0..32) in the grid.
    #[inline(always)]
    fn group(&self, j: usize) -> usize {
        let high = usize::from(self.high[j / 4]) >> (2 * (j % 4)) & 3;
        usize::from(self.low[j]) | high << 8
    }
}

impl BlockFormat for IQ2_S {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, values) in values.chunks_exact_mut(8).enumerate() {
            let sub_scale = block.scales[i / 4] >> (4 * (i / 2 % 2)) & 15;
            let scale = block.scale.to_f32() * (0.5 + f32::from(sub_scale)) * 0.25;
            let group = grid::IQ2_S[block.group(i)];
            grid::dequantize(group, block.signs[i], scale, values);
        }
    }
}

impl PackedFormat for IQ2_S {
    type Unit = Block;
    type Unpacked = Unpacked<SevenBits, 16, 64>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, vector: usize) -> S::Bytes {
        let mut groups = [0; 8];
        for (i, group) in groups.iter_mut().enumerate() {
            *group = grid::IQ2_S[unit.group(8 * vector + i)];
        }
        let signs = u64::from_le_bytes(*part(&unit.signs, 8 * vector));
        simd.around(64, simd.words(groups), signs)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        nibble_scales(simd, &unit.scales, unit.scale, 0.125)
    }
}
