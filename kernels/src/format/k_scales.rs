//! The 6-bit scales and mins that Q4_K and Q5_K share: eight of each in twelve bytes.

use super::{Half, part};
use crate::simd::Simd;

/// The scale and the min of sub-block `index` (0..8).
pub(super) fn scale_and_min(packed: &[u8; 12], index: usize) -> (u8, u8) {
    if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        (
            low & 15 | packed[index - 4] >> 6 << 4,
            low >> 4 | packed[index] >> 6 << 4,
        )
    }
}

/// The packed form of the scales and mins, which have 6 bits each.
pub(super) fn pack(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    std::array::from_fn(|byte| match byte {
        0..4 => scales[byte] | scales[byte + 4] >> 4 << 6,
        4..8 => mins[byte - 4] | mins[byte] >> 4 << 6,
        _ => scales[byte - 4] & 15 | mins[byte - 4] << 4,
    })
}

/// The values of a super-block, 32 quants at a time.
pub(super) fn dequantize(
    scale: Half,
    min: Half,
    packed: &[u8; 12],
    quant: impl Fn(usize) -> u8,
    values: &mut [f32],
) {
    for (index, values) in values.chunks_exact_mut(32).enumerate() {
        let (sub_scale, sub_min) = scale_and_min(packed, index);
        let sub_scale = scale.to_f32() * f32::from(sub_scale);
        let sub_min = min.to_f32() * f32::from(sub_min);
        for (i, value) in values.iter_mut().enumerate() {
            *value = sub_scale * f32::from(quant(32 * index + i)) - sub_min;
        }
    }
}

/// The eight scales, then the eight mins, each times its factor of the super-block.
#[inline(always)]
pub(super) fn scales_and_mins<S: Simd>(
    simd: S,
    [scale, min]: [Half; 2],
    packed: &[u8; 12],
) -> S::Floats {
    let [first, second, third] = [word(packed, 0), word(packed, 1), word(packed, 2)];
    // Six bits of scales 0..4 and mins 0..4, with the high bits of the others above them; the four low
    // bits of the others are nibbles, those of the scales low.
    let pairs = first | second << 32;
    let low = pairs & 0x3f3f_3f3f_3f3f_3f3f;
    let nibbles = (third | third << 28) & 0x0f0f_0f0f_0f0f_0f0f;
    let high = pairs >> 2 & 0x3030_3030_3030_3030 | nibbles;
    let [scales, mins] = [low & MASK | high << 32, low >> 32 | high & !MASK];
    simd.mul(
        simd.floats_of_u8(bytemuck::cast([scales.to_le(), mins.to_le()])),
        simd.splat_two_f16(scale.bits(), min.bits()),
    )
}

/// The low half of 64 bits.
const MASK: u64 = 0xffff_ffff;

#[inline(always)]
fn word(packed: &[u8; 12], index: usize) -> u64 {
    u64::from(u32::from_le_bytes(*part(packed, 4 * index)))
}
