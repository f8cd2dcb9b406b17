//! The 6-bit scales and mins that Q4_K and Q5_K share: eight of each in twelve bytes.

use super::Half;
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

/// `scale` times the eight sub-block scales.
#[inline(always)]
pub(super) fn scales<S: Simd>(simd: S, scale: Half, packed: &[u8; 12]) -> S::Floats {
    let [first, _, third] = words(packed);
    let high = (third & 0x0f0f_0f0f) | (first >> 2 & 0x3030_3030);
    simd.mul(
        floats(simd, first & 0x3f3f_3f3f, high),
        simd.splat_f16(scale.bits()),
    )
}

/// `min` times the eight sub-block mins.
#[inline(always)]
pub(super) fn mins<S: Simd>(simd: S, min: Half, packed: &[u8; 12]) -> S::Floats {
    let [_, second, third] = words(packed);
    let high = (third >> 4 & 0x0f0f_0f0f) | (second >> 2 & 0x3030_3030);
    simd.mul(
        floats(simd, second & 0x3f3f_3f3f, high),
        simd.splat_f16(min.bits()),
    )
}

#[inline(always)]
fn words(packed: &[u8; 12]) -> [u32; 3] {
    std::array::from_fn(|i| {
        u32::from_le_bytes([
            packed[4 * i],
            packed[4 * i + 1],
            packed[4 * i + 2],
            packed[4 * i + 3],
        ])
    })
}

/// Four bytes of each word as floats in lanes 0..8.
#[inline(always)]
fn floats<S: Simd>(simd: S, low: u32, high: u32) -> S::Floats {
    simd.floats_of_u8((u128::from(low) | u128::from(high) << 32).to_le_bytes())
}
