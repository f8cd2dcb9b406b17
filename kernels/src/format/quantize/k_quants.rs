//! Q2_K to Q6_K: a search per sub-block, then the sub-blocks' scales are quantised themselves, and
//! the quants taken anew with the scales as they will be read.

use super::super::{Half, k_scales, q2_k, q3_k, q4_k, q5_k, q6_k};
use super::scale_search::{Affine, SMALLEST, Search, symmetric, symmetric_by_moves};
use super::{Quantize, largest, nearest};

impl Quantize for q2_k::Q2_K {
    fn quantize(values: &[f32]) -> q2_k::Block {
        const SEARCH: Search = Search {
            most: 3,
            first: -0.5,
            step: 0.1,
            steps: 15,
            absolute: true,
        };
        let weigh = |values: &[f32; 16]| values.map(f32::abs);
        let subs: [Affine<16>; 16] = search(values, weigh, &SEARCH);
        let (scale, sub_scales) = positive_scales(subs.each_ref().map(|sub| sub.scale), 15);
        let (min, sub_mins) = positive_scales(subs.each_ref().map(|sub| sub.min), 15);
        let quants = requantise(values, &subs, 3, |sub| {
            (
                scale.to_f32() * f32::from(sub_scales[sub]),
                min.to_f32() * f32::from(sub_mins[sub]),
            )
        });
        q2_k::Block {
            scales: std::array::from_fn(|sub| sub_scales[sub] | sub_mins[sub] << 4),
            quants: two_bits(&quants),
            scale,
            min,
        }
    }
}

impl Quantize for q3_k::Q3_K {
    fn quantize(values: &[f32]) -> q3_k::Block {
        let mut quants = [0; 256];
        let mut scales = [0.0; 16];
        for ((values, quants), scale) in sub_blocks(values, &mut quants).zip(&mut scales) {
            (*scale, *quants) = symmetric_by_moves::<16>(values, 4);
        }
        let (scale, sub_scales) = match largest(&scales) {
            0.0 => (Half::from_f32(0.0), [0; 16]),
            largest => {
                let inverse = -32.0 / largest;
                let quantised = scales.map(|scale| nearest(inverse * scale).clamp(-32, 31));
                (Half::from_f32(1.0 / inverse), quantised)
            }
        };
        for ((values, quants), sub) in sub_blocks(values, &mut quants).zip(sub_scales) {
            round_to_scale(values, scale.to_f32() * sub as f32, 4, quants);
        }
        q3_k::Block {
            high: std::array::from_fn(|i| {
                (0..8).fold(0, |bits, j| bits | (quants[32 * j + i] >> 2) << j)
            }),
            quants: two_bits(&quants.map(|quant| quant & 3)),
            scales: q3_k::pack_scales(&sub_scales.map(|sub| (sub + 32) as u8)),
            scale,
        }
    }
}

impl Quantize for q4_k::Q4_K {
    fn quantize(values: &[f32]) -> q4_k::Block {
        const SEARCH: Search = Search {
            most: 15,
            first: -1.0,
            step: 0.1,
            steps: 20,
            absolute: false,
        };
        let Super {
            scale,
            min,
            scales,
            quants,
        } = Super::quantize(values, &SEARCH);
        q4_k::Block {
            scale,
            min,
            scales,
            quants: paired_nibbles(&quants),
        }
    }
}

impl Quantize for q5_k::Q5_K {
    fn quantize(values: &[f32]) -> q5_k::Block {
        const SEARCH: Search = Search {
            most: 31,
            first: -0.5,
            step: 0.1,
            steps: 15,
            absolute: false,
        };
        let Super {
            scale,
            min,
            scales,
            quants,
        } = Super::quantize(values, &SEARCH);
        q5_k::Block {
            scale,
            min,
            scales,
            high: std::array::from_fn(|i| {
                (0..8).fold(0, |bits, j| bits | (quants[32 * j + i] >> 4) << j)
            }),
            quants: paired_nibbles(&quants),
        }
    }
}

impl Quantize for q6_k::Q6_K {
    fn quantize(values: &[f32]) -> q6_k::Block {
        let mut quants = [0; 256];
        let mut scales = [0.0; 16];
        for ((values, quants), scale) in sub_blocks(values, &mut quants).zip(&mut scales) {
            (*scale, *quants) = symmetric::<16>(values, 32);
        }
        let largest = largest(&scales);
        if largest.abs() < SMALLEST {
            return bytemuck::Zeroable::zeroed();
        }
        let inverse = -128.0 / largest;
        let scale = Half::from_f32(1.0 / inverse);
        let sub_scales = scales.map(|scale| nearest(inverse * scale).min(127) as i8);
        for ((values, quants), sub) in sub_blocks(values, &mut quants).zip(sub_scales) {
            round_to_scale(values, scale.to_f32() * f32::from(sub), 32, quants);
        }
        let quant = |half: usize, i: usize| quants[128 * half + i];
        q6_k::Block {
            low: std::array::from_fn(|byte| {
                let (half, i) = (byte / 64, byte % 64);
                quant(half, i) & 15 | quant(half, i + 64) << 4
            }),
            high: std::array::from_fn(|byte| {
                let (half, i) = (byte / 32, byte % 32);
                (0..4).fold(0, |bits, j| bits | quant(half, 32 * j + i) >> 4 << (2 * j))
            }),
            scales: sub_scales.map(|sub| sub as u8),
            scale,
        }
    }
}

/// What Q4_K and Q5_K share: sub-blocks of 32 with scales and mins of 6 bits.
struct Super {
    scale: Half,
    min: Half,
    scales: [u8; 12],
    quants: [u8; 256],
}

impl Super {
    fn quantize(values: &[f32], how: &Search) -> Self {
        let weigh = |values: &[f32; 32]| {
            let squares = values.iter().fold(0.0, |sum, x| sum + x * x);
            let mean = (squares / 32.0_f32).sqrt();
            values.map(|x| mean + x.abs())
        };
        let subs: [Affine<32>; 8] = search(values, weigh, how);
        let (scale, sub_scales) = positive_scales(subs.each_ref().map(|sub| sub.scale), 63);
        let (min, sub_mins) = positive_scales(subs.each_ref().map(|sub| sub.min), 63);
        let quants = requantise(values, &subs, how.most, |sub| {
            (
                scale.to_f32() * f32::from(sub_scales[sub]),
                min.to_f32() * f32::from(sub_mins[sub]),
            )
        });
        Self {
            scale,
            min,
            scales: k_scales::pack(&sub_scales, &sub_mins),
            quants,
        }
    }
}

fn search<const N: usize, const SUBS: usize>(
    values: &[f32],
    weigh: impl Fn(&[f32; N]) -> [f32; N],
    how: &Search,
) -> [Affine<N>; SUBS] {
    let subs = values.as_chunks().0;
    std::array::from_fn(|sub| Affine::search(&subs[sub], &weigh(&subs[sub]), how))
}

/// Scales `0..=most`, and the scale of the scales: that of the largest one becomes `most`.
fn positive_scales<const N: usize>(scales: [f32; N], most: u8) -> (Half, [u8; N]) {
    let largest = scales.iter().fold(
        0.0,
        |largest, &scale| {
            if scale > largest { scale } else { largest }
        },
    );
    let inverse = if largest > 0.0 {
        f32::from(most) / largest
    } else {
        0.0
    };
    // A negative scale wraps, as it does in ggml, and becomes `most`.
    let quantised = scales.map(|scale| (nearest(inverse * scale) as u8).min(most));
    (Half::from_f32(largest / f32::from(most)), quantised)
}

/// The quants with the scales and mins of the sub-blocks as they will be read; where that scale is 0,
/// those of the search.
fn requantise<const N: usize>(
    values: &[f32],
    subs: &[Affine<N>],
    most: i32,
    scale_and_min: impl Fn(usize) -> (f32, f32),
) -> [u8; 256] {
    std::array::from_fn(|i| {
        let (scale, min) = scale_and_min(i / N);
        if scale == 0.0 {
            subs[i / N].quants[i % N]
        } else {
            nearest((values[i] + min) / scale).clamp(0, most) as u8
        }
    })
}

/// The quants of a sub-block, plus `zero`, with a scale as it will be read; left as they are if it is 0.
fn round_to_scale(values: &[f32; 16], scale: f32, zero: i32, quants: &mut [u8; 16]) {
    if scale != 0.0 {
        *quants = values.map(|x| (nearest(x / scale).clamp(-zero, zero - 1) + zero) as u8);
    }
}

/// The values and the quants of each sub-block.
fn sub_blocks<'a>(
    values: &'a [f32],
    quants: &'a mut [u8; 256],
) -> impl Iterator<Item = (&'a [f32; 16], &'a mut [u8; 16])> {
    values.as_chunks().0.iter().zip(quants.as_chunks_mut().0)
}

/// Quants 128n + 32j + i: bits 2j and 2j + 1 of byte 32n + i.
fn two_bits(quants: &[u8; 256]) -> [u8; 64] {
    std::array::from_fn(|byte| {
        let first = 128 * (byte / 32) + byte % 32;
        (0..4).fold(0, |bits, j| bits | quants[first + 32 * j] << (2 * j))
    })
}

/// Quants 64n + i: low nibble of byte 32n + i; quants 64n + 32 + i: its high nibble.
fn paired_nibbles(quants: &[u8; 256]) -> [u8; 128] {
    std::array::from_fn(|byte| {
        let first = 64 * (byte / 32) + byte % 32;
        quants[first] & 15 | quants[first + 32] << 4
    })
}
