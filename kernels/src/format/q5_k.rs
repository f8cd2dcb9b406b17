//! Q5_K: 256 values of 5 bits, a 6-bit scale and min per 32. `value = scale * quant - min`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, QuantFormat, k_scales, part};
use crate::simd::{SevenBits, Simd};

pub(crate) struct Q5_K;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    pub(super) scale: Half,
    pub(super) min: Half,
    pub(super) scales: [u8; 12],
    /// Fifth bits, value 32j + i: bit j of byte i.
    pub(super) high: [u8; 32],
    /// Values 64n + i: low nibble of byte 32n + i; values 64n + 32 + i: its high nibble.
    pub(super) quants: [u8; 128],
}

impl BlockFormat for Q5_K {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        let quant = |i: usize| {
            let nibble = block.quants[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2)) & 15;
            nibble | (block.high[i % 32] >> (i / 32) & 1) << 4
        };
        k_scales::dequantize(block.scale, block.min, &block.scales, quant, values);
    }
}

impl QuantFormat for Q5_K {
    type Unit = Block;
    type Quants = SevenBits;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const HAS_MINS: bool = true;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, chunk: usize) -> S::Bytes {
        let nibbles = simd.split_fields(part(&unit.quants, 32 * chunk), 0, 4, 15);
        let bit = 2 * chunk as u32;
        simd.or(
            nibbles,
            simd.shift_left(simd.split_fields(&unit.high, bit, bit + 1, 1), 4),
        )
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        k_scales::scales(simd, unit.scale, &unit.scales)
    }

    #[inline(always)]
    fn mins<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        k_scales::mins(simd, unit.min, &unit.scales)
    }
}
