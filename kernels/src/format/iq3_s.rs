//! IQ3_S: 256 values, groups of four from a grid of 512 with any signs, a 4-bit scale per 32.
//! `value = scale * (quant - 16)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, grid, odd_scales, part, spread_nibbles};
use crate::simd::{FiveBits, Simd};

pub(crate) struct IQ3_S;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// Eight low bits of the groups in the grid.
    low: [u8; 64],
    /// The ninth bit of group j: bit j % 8 of byte j / 8.
    high: [u8; 8],
    /// Sign of value 8j + i: bit i of byte j.
    signs: [u8; 32],
    /// Scale j: nibble j % 2 of byte j / 2.
    scales: [u8; 4],
}

impl Block {
    /// Group `j` (0..64) in the grid.
    #[inline(always)]
    fn group(&self, j: usize) -> usize {
        usize::from(self.low[j]) | (usize::from(self.high[j / 8]) >> (j % 8) & 1) << 8
    }
}

impl BlockFormat for IQ3_S {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, values) in values.chunks_exact_mut(8).enumerate() {
            let sub_scale = block.scales[i / 8] >> (4 * (i / 4 % 2)) & 15;
            let scale = block.scale.to_f32() * f32::from(1 + 2 * sub_scale);
            let [low, high] = [block.group(2 * i), block.group(2 * i + 1)];
            let group = grid::IQ3_S[low] | grid::IQ3_S[high] << 32;
            grid::dequantize(group, block.signs[i], scale, values);
        }
    }
}

impl PackedFormat for IQ3_S {
    type Unit = Block;
    type Unpacked = Unpacked<FiveBits, 32, 16>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, vector: usize) -> S::Bytes {
        let mut pairs = [0; 8];
        for (i, pair) in pairs.iter_mut().enumerate() {
            let first = 16 * vector + 2 * i;
            let [low, high] = [unit.group(first), unit.group(first + 1)];
            *pair = grid::IQ3_S[low] | grid::IQ3_S[high] << 32;
        }
        let signs = u64::from_le_bytes(*part(&unit.signs, 8 * vector));
        simd.around(16, simd.single_words(pairs), signs)
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        let scales = spread_nibbles(u32::from_le_bytes(unit.scales));
        odd_scales(simd, [scales; 2], unit.scale, 1.0)
    }
}
