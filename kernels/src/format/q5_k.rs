//! Q5_K: 256 values of 5 bits, a 6-bit scale and min per 32. `value = scale * quant - min`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, Mins, Order, QuantFormat, k_scales, nibbles, part};
use crate::simd::{FiveBits, Simd};

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
    type Quants = FiveBits;
    const SUB: usize = 32;
    const OFFSET: i32 = 0;
    const MINS: Mins = Mins::Subtracted;
    const ORDER: Order = Order::EvenBlocks;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, half: usize) -> [S::Bytes; 2] {
        let [low, high] = nibbles(simd, simd.load_bytes(part(&unit.quants, 64 * half)));
        // Bit j of the fifth bits becomes bit 4.
        let first = 4 * half as i32 - 4;
        let even = simd.shift_halves(&unit.high, [first, first + 2]);
        let odd = simd.shift_halves(&unit.high, [first + 1, first + 3]);
        [
            simd.or(low, simd.field(even, 0, 16)),
            simd.or(high, simd.field(odd, 0, 16)),
        ]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        k_scales::scales_and_mins(simd, [unit.scale, unit.min], &unit.scales)
    }
}
