//! Q3_K: 256 values of 3 bits, a 6-bit scale per 16. `value = scale * (quant - 4)`.

use bytemuck::{Pod, Zeroable};

use super::{BlockFormat, Half, Mins, Order, QuantFormat, part};
use crate::simd::{Nibbles, Simd};

pub(crate) struct Q3_K;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// Third bits, value 32j + i: bit j of byte i.
    pub(super) high: [u8; 32],
    /// Low two bits, values 128n + 32j + i: bits 2j and 2j + 1 of byte 32n + i.
    pub(super) quants: [u8; 64],
    /// Scale j plus 32: four low bits in nibbles (0..8 low, 8..16 high), two high bits behind them.
    pub(super) scales: [u8; 12],
    pub(super) scale: Half,
}

impl BlockFormat for Q3_K {
    type Block = Block;
    const ELEMENTS: usize = 256;

    fn dequantize(block: &Block, values: &mut [f32]) {
        for (i, value) in values.iter_mut().enumerate() {
            let low = block.quants[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3;
            let high = block.high[i % 32] >> (i / 32) & 1;
            let scale = block.scale.to_f32() * (f32::from(sub_scale(&block.scales, i / 16)) - 32.0);
            *value = scale * (f32::from(low + 4 * high) - 4.0);
        }
    }
}

impl QuantFormat for Q3_K {
    type Unit = Block;
    type Quants = Nibbles;
    const SUB: usize = 16;
    const OFFSET: i32 = 4;
    const MINS: Mins = Mins::None;
    const ORDER: Order = Order::Sequential;

    #[inline(always)]
    fn quants<S: Simd>(simd: S, unit: &Block, half: usize) -> [S::Bytes; 2] {
        let bits = part(&unit.quants, 32 * half);
        // Bit j of the third bits becomes bit 2.
        let third = 4 * half as i32 - 2;
        [
            simd.or(
                simd.field(simd.shift_halves(bits, [0, 2]), 0, 3),
                simd.field(simd.shift_halves(&unit.high, [third, third + 1]), 0, 4),
            ),
            simd.or(
                simd.field(simd.shift_halves(bits, [4, 6]), 0, 3),
                simd.field(simd.shift_halves(&unit.high, [third + 2, third + 3]), 0, 4),
            ),
        ]
    }

    #[inline(always)]
    fn scales<S: Simd>(simd: S, unit: &Block) -> S::Floats {
        let word = |i: usize| u32::from_le_bytes(*part(&unit.scales, 4 * i));
        let (first, second, high) = (word(0), word(1), word(2));
        let join = |low: u32, shift: u32| {
            u128::from((low & 0x0f0f_0f0f) | (high >> shift & 0x0303_0303) << 4)
        };
        let scales = join(first, 0)
            | join(second, 2) << 32
            | join(first >> 4, 4) << 64
            | join(second >> 4, 6) << 96;
        let scales = simd.sub(simd.floats_of_u8(scales.to_le_bytes()), simd.splat(32.0));
        simd.mul(scales, simd.splat_f16(unit.scale.bits()))
    }
}

/// Scale `index` (0..16) plus 32.
fn sub_scale(packed: &[u8; 12], index: usize) -> u8 {
    let low = if index < 8 {
        packed[index] & 15
    } else {
        packed[index - 8] >> 4
    };
    low | (packed[8 + index % 4] >> (2 * (index / 4)) & 3) << 4
}

/// The packed form of the scales plus 32, which have 6 bits.
pub(super) fn pack_scales(scales: &[u8; 16]) -> [u8; 12] {
    std::array::from_fn(|byte| match byte {
        0..8 => scales[byte] & 15 | scales[byte + 8] << 4,
        _ => (0..4).fold(0, |bits, j| bits | scales[byte - 8 + 4 * j] >> 4 << (2 * j)),
    })
}
