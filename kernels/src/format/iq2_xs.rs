//! IQ2_XS: 256 values, groups of eight from a grid of 512 with an even number of signs, a 4-bit scale
//! per 16. `value = scale * (quant - 64)`.

use bytemuck::{Pod, Zeroable};

use super::unpacked::Unpacked;
use super::{BlockFormat, Half, PackedFormat, grid, nibble_scales, part, signs};
use crate::simd::{SevenBits, Simd};

pub(crate) struct IQ2_XS;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    scale: Half,
    /// The group in the grid: bits 0 to 8. Its signs: bits 9 to 15.
    groups: [[u8; 2]; 32],
    /// Scale j: nibble j % 2 of byte j / 2.
    scales: [u8; 8],
}

impl BlockFormat for IQ2_XS {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, values) in values.chunks_exact_mut(8).enumerate() {
            let sub_scale = block.scales[i / 4] >> (4 * (i / 2 % 2)) & 15;
            let scale = block.scale.to_f32() * (0.5 + f32::from(sub_scale)) * 0.25;
            let group = u16::from_le_bytes(block.groups[i]);
            let signs = signs::even(u64::from(group >> 9));
            let group = grid::IQ2_XS[usize::from(group & 511)];
            grid::dequantize(group, signs as u8, scale, values);
        }
    }
}

impl PackedFormat for IQ2_XS {
    type Unit = Block;
    type Unpacked = Unpacked<SevenBits, 16, 64>;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, vector: usize) -> S::Bytes {
        let numbers: &[_; 8] = part(&unit.groups, 8 * vector);
        let (mut groups, mut sevens) = ([0; 8], 0);
        for i in 0..8 {
            let number = u16::from_le_bytes(numbers[i]);
            groups[i] = grid::IQ2_XS[usize::from(number & 511)];
            sevens |= u64::from(number >> 9) << (8 * i);
        }
        simd.around(64, simd.words(groups), signs::even(sevens))
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        nibble_scales(simd, &unit.scales, unit.scale, 0.125)
    }
}
