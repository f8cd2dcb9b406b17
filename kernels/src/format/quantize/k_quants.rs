//! Q2_K to Q6_K: a search per sub-block, then the sub-blocks' scales are quantised themselves, and
//! the quants taken anew with the scales as they will be read.

use super::super::{Half, k_scales, q2_k, q3_k, q4_k, q5_k, q6_k};
use super::scale_search::{Affine, Columns, LANES, SMALLEST, Search};
use super::scale_search::{columns, symmetric, symmetric_by_moves};
use super::{Quantize, each, largest, nearest};
use crate::simd::Simd;

impl Quantize for q2_k::Q2_K {
    #[inline(always)]
    fn quantize<S: Simd>(simd: S, values: &[f32], blocks: &mut [q2_k::Block]) {
        const SEARCH: Search = Search {
            most: 3,
            first: -0.5,
            step: 0.1,
            steps: 15,
            absolute: true,
        };
        each::<Self>(values, blocks, |values| {
            let columns = columns::<16>(values);
            let weights = columns.map(|column| column.map(f32::abs));
            let found = Affine::search(simd, &columns, &weights, &SEARCH);
            let (scale, sub_scales) = positive_scales(&found.scales, 15);
            let (min, sub_mins) = positive_scales(&found.mins, 15);
            let quants = requantise(values, &found, 0, SEARCH.most, |sub| {
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
        });
    }
}

impl Quantize for q3_k::Q3_K {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [q3_k::Block]) {
        each::<Self>(values, blocks, quantize_q3_k);
    }
}

fn quantize_q3_k(values: &[f32]) -> q3_k::Block {
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

impl Quantize for q4_k::Q4_K {
    #[inline(always)]
    fn quantize<S: Simd>(simd: S, values: &[f32], blocks: &mut [q4_k::Block]) {
        const SEARCH: Search = Search {
            most: 15,
            first: -1.0,
            step: 0.1,
            steps: 20,
            absolute: false,
        };
        super_blocks(simd, values, blocks, &SEARCH, |found| q4_k::Block {
            scale: found.scale,
            min: found.min,
            scales: found.scales,
            quants: paired_nibbles(&found.quants),
        });
    }
}

impl Quantize for q5_k::Q5_K {
    #[inline(always)]
    fn quantize<S: Simd>(simd: S, values: &[f32], blocks: &mut [q5_k::Block]) {
        const SEARCH: Search = Search {
            most: 31,
            first: -0.5,
            step: 0.1,
            steps: 15,
            absolute: false,
        };
        super_blocks(simd, values, blocks, &SEARCH, |found| q5_k::Block {
            scale: found.scale,
            min: found.min,
            scales: found.scales,
            high: std::array::from_fn(|i| {
                (0..8).fold(0, |bits, j| bits | (found.quants[32 * j + i] >> 4) << j)
            }),
            quants: paired_nibbles(&found.quants),
        });
    }
}

impl Quantize for q6_k::Q6_K {
    #[inline(always)]
    fn quantize<S: Simd>(simd: S, values: &[f32], blocks: &mut [q6_k::Block]) {
        each::<Self>(values, blocks, |values| {
            let (scales, quants) = symmetric(simd, &columns::<16>(values), 32);
            q6_k_block(values, &scales, &quants)
        });
    }
}

fn q6_k_block(values: &[f32], scales: &[f32; 16], found: &Columns<16>) -> q6_k::Block {
    let largest = largest(scales);
    if largest.abs() < SMALLEST {
        return bytemuck::Zeroable::zeroed();
    }
    let inverse = -128.0 / largest;
    let scale = Half::from_f32(1.0 / inverse);
    let sub_scales = scales.map(|scale| nearest(inverse * scale).min(127) as i8);
    let mut quants = std::array::from_fn(|i| found[i % 16][i / 16] as u8);
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

/// What Q4_K and Q5_K share: sub-blocks of 32 with scales and mins of 6 bits.
struct Super {
    scale: Half,
    min: Half,
    scales: [u8; 12],
    quants: [u8; 256],
}

/// Quantises two blocks at a time: they have as many sub-blocks as there are lanes.
#[inline(always)]
fn super_blocks<S: Simd, B>(
    simd: S,
    values: &[f32],
    blocks: &mut [B],
    how: &Search,
    block_of: impl Fn(&Super) -> B,
) {
    for (values, blocks) in values.chunks(512).zip(blocks.chunks_mut(2)) {
        let columns = columns::<32>(values);
        let found = Affine::search(simd, &columns, &super_weights(&columns), how);
        let blocks = blocks.iter_mut().zip(values.chunks_exact(256));
        for (index, (block, values)) in blocks.enumerate() {
            *block = block_of(&Super::new(values, &found, 8 * index, how.most));
        }
    }
}

/// The root of a sub-block's mean square, plus the magnitude of the value.
#[inline(always)]
fn super_weights(columns: &Columns<32>) -> Columns<32> {
    let mut squares = [0.0; LANES];
    for column in columns {
        for (square, x) in squares.iter_mut().zip(column) {
            *square += x * x;
        }
    }
    let means = squares.map(|square: f32| (square / 32.0).sqrt());
    columns.map(|column| std::array::from_fn(|lane| means[lane] + column[lane].abs()))
}

impl Super {
    /// From the sub-blocks in the lanes `first..first + 8`.
    fn new(values: &[f32], found: &Affine<32>, first: usize, most: u8) -> Self {
        let eight =
            |lanes: &[f32; LANES]| -> [f32; 8] { std::array::from_fn(|i| lanes[first + i]) };
        let (scale, sub_scales) = positive_scales(&eight(&found.scales), 63);
        let (min, sub_mins) = positive_scales(&eight(&found.mins), 63);
        let quants = requantise(values, found, first, most, |sub| {
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

/// Scales `0..=most`, and the scale of the scales: that of the largest one becomes `most`.
fn positive_scales<const N: usize>(scales: &[f32; N], most: u8) -> (Half, [u8; N]) {
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
/// those of the search. Sub-block 0 was searched in lane `first`.
fn requantise<const N: usize>(
    values: &[f32],
    found: &Affine<N>,
    first: usize,
    most: u8,
    scale_and_min: impl Fn(usize) -> (f32, f32),
) -> [u8; 256] {
    let mut quants = [0; 256];
    let subs = values.chunks_exact(N).zip(quants.chunks_exact_mut(N));
    for (sub, (values, quants)) in subs.enumerate() {
        let (scale, min) = scale_and_min(sub);
        for ((quant, value), column) in quants.iter_mut().zip(values).zip(&found.quants) {
            *quant = if scale == 0.0 {
                column[first + sub] as u8
            } else {
                nearest((value + min) / scale).clamp(0, most.into()) as u8
            };
        }
    }
    quants
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
