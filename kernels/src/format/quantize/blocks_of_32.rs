//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: the scale follows from the outermost values of a block.

use super::super::{Half, q4_0, q4_1, q5_0, q5_1, q8_0};
use super::{Quantize, bounds, each, largest};
use crate::simd::Simd;

impl Quantize for q4_0::Q4_0 {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [q4_0::Block]) {
        each::<Self>(values, blocks, |values| {
            let (scale, quants) = around_zero(values, 8);
            q4_0::Block {
                scale,
                quants: nibbles(&quants),
            }
        });
    }
}

impl Quantize for q4_1::Q4_1 {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [q4_1::Block]) {
        each::<Self>(values, blocks, |values| {
            let (scale, min, quants) = above_min(values, 15);
            q4_1::Block {
                scale,
                min,
                quants: nibbles(&quants),
            }
        });
    }
}

impl Quantize for q5_0::Q5_0 {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [q5_0::Block]) {
        each::<Self>(values, blocks, |values| {
            let (scale, quants) = around_zero(values, 16);
            q5_0::Block {
                scale,
                high: fifth_bits(&quants),
                quants: nibbles(&quants),
            }
        });
    }
}

impl Quantize for q5_1::Q5_1 {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [q5_1::Block]) {
        each::<Self>(values, blocks, |values| {
            let (scale, min, quants) = above_min(values, 31);
            q5_1::Block {
                scale,
                min,
                high: fifth_bits(&quants),
                quants: nibbles(&quants),
            }
        });
    }
}

impl Quantize for q8_0::Q8_0 {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [q8_0::Block]) {
        each::<Self>(values, blocks, |values| {
            let scale = largest(values).abs() / 127.0;
            let inverse = inverse(scale);
            q8_0::Block {
                scale: Half::from_f32(scale),
                quants: std::array::from_fn(|i| (values[i] * inverse).round() as i8 as u8),
            }
        });
    }
}

/// Scale and quants `0..2 * zero`: the value of the largest magnitude becomes quant 0.
fn around_zero(values: &[f32], zero: u8) -> (Half, [u8; 32]) {
    let scale = largest(values) / -f32::from(zero);
    let (inverse, half_up) = (inverse(scale), f32::from(zero) + 0.5);
    // As a cast of C, `as` cuts off the fraction; it keeps what is out of range in the range.
    let quants = std::array::from_fn(|i| ((values[i] * inverse + half_up) as u8).min(2 * zero - 1));
    (Half::from_f32(scale), quants)
}

/// Scale, min and quants `0..=most`: the least value becomes quant 0, the largest `most`.
fn above_min(values: &[f32], most: u8) -> (Half, Half, [u8; 32]) {
    let (min, max) = bounds(values);
    let scale = (max - min) / f32::from(most);
    let inverse = inverse(scale);
    let quants = std::array::from_fn(|i| (((values[i] - min) * inverse + 0.5) as u8).min(most));
    (Half::from_f32(scale), Half::from_f32(min), quants)
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Low nibbles: quants 0..16; high nibbles: quants 16..32.
fn nibbles(quants: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| quants[i] & 15 | quants[i + 16] << 4)
}

/// Bit `i` is the fifth bit of quant `i`.
fn fifth_bits(quants: &[u8; 32]) -> [u8; 4] {
    std::array::from_fn(|byte| {
        (0..8).fold(0, |bits, i| bits | (quants[8 * byte + i] >> 4 & 1) << i)
    })
}
