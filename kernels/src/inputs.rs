//! The inputs of products: the activations of a few tokens, as floats and as small integers.

use std::ops::Range;

use crate::format::UNIT;
use crate::level::Level;
use crate::simd::{Kernel, Simd};

/// Values that share an activation scale.
pub(crate) const BLOCK: usize = 32;

/// The inputs of up to a tile's number of tokens, quantised once for all matrices that take them.
///
/// Of each 32 values of a token the largest magnitude becomes 127. Token and block are interleaved
/// as the tile reads them: block by block, in each block token by token. With one token that is the
/// natural order, which the dot product reads.
#[derive(Clone, Debug, Default)]
pub struct InputGroup {
    tokens: usize,
    cols: usize,
    /// `[tokens, padded]`, zeros behind `cols`.
    values: Vec<f32>,
    /// `[padded / 32, tokens]` blocks of 32 quants, in fours.
    quants: Vec<[[i8; 4]; 8]>,
    /// `[padded / 32, tokens]`.
    scales: Vec<f32>,
    /// `[padded / 16, tokens]`: sums of the quants.
    sums: Vec<i32>,
    one_token: OneToken,
}

/// Scales and sums of one token as the dot product reads them.
#[derive(Clone, Debug, Default)]
struct OneToken {
    /// `[padded / 16]`: every scale twice.
    scales16: Vec<f32>,
    /// `[padded / 16]`: scale times the sum of 16 quants.
    sums16: Vec<f32>,
    /// `[padded / 32]`: scale times the sum of 32 quants.
    sums32: Vec<f32>,
}

/// How `tokens` tokens are best cut into groups: as few as the level's tile allows, of near-equal
/// size.
pub fn groups(level: Level, tokens: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let count = tokens.div_ceil(level.run(TileTokens));
    (0..count).map(move |i| i * tokens / count..(i + 1) * tokens / count)
}

struct TileTokens;

impl Kernel for TileTokens {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) -> usize {
        S::TILE_TOKENS
    }
}

impl InputGroup {
    /// An empty group; [`InputGroup::fill`] allocates what it needs and keeps it.
    #[must_use]
    pub const fn new() -> Self {
        let one_token = OneToken {
            scales16: Vec::new(),
            sums16: Vec::new(),
            sums32: Vec::new(),
        };
        Self {
            tokens: 0,
            cols: 0,
            values: Vec::new(),
            quants: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
            one_token,
        }
    }

    /// Takes the inputs `rows`, row-major `[tokens, cols]`.
    ///
    /// # Panics
    /// If `rows` are not whole rows, or more than a group of this level holds (see [`groups`]).
    pub fn fill(&mut self, level: Level, rows: &[f32], cols: usize) {
        assert!(
            cols > 0 && rows.len().is_multiple_of(cols),
            "{} values in rows of {cols}",
            rows.len()
        );
        let tokens = rows.len() / cols;
        assert!(
            tokens <= level.run(TileTokens),
            "{tokens} tokens in one group of level {level}"
        );
        let padded = cols.next_multiple_of(UNIT);
        self.tokens = tokens;
        self.cols = cols;
        self.values.resize(tokens * padded, 0.0);
        for (values, row) in self
            .values
            .chunks_exact_mut(padded)
            .zip(rows.chunks_exact(cols))
        {
            values[..cols].copy_from_slice(row);
            values[cols..].fill(0.0);
        }
        self.quants.resize(tokens * padded / BLOCK, [[0; 4]; 8]);
        self.scales.resize(tokens * padded / BLOCK, 0.0);
        self.sums.resize(tokens * padded / 16, 0);
        level.run(Quantize {
            group: self,
            padded,
        });
        if tokens == 1 {
            self.one_token.fill(&self.scales, &self.sums);
        }
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Values of a token.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Values of a token with the zeros behind them, a multiple of [`UNIT`].
    pub(crate) fn padded_cols(&self) -> usize {
        self.cols.next_multiple_of(UNIT)
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn quants(&self) -> &[[[i8; 4]; 8]] {
        &self.quants
    }

    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Scales of `sub` (16 or 32) values; one token only.
    pub(crate) fn scales_of(&self, sub: usize) -> &[f32] {
        if sub == BLOCK {
            &self.scales
        } else {
            &self.one_token.scales16
        }
    }

    /// Scale times sum of `sub` (16 or 32) quants; one token only.
    pub(crate) fn scaled_sums_of(&self, sub: usize) -> &[f32] {
        if sub == BLOCK {
            &self.one_token.sums32
        } else {
            &self.one_token.sums16
        }
    }

    /// For each sub-block of `sub` (16 or 32) values, and in it for each token: the sum of the quants
    /// and their scale.
    pub(crate) fn sums_of(&self, sub: usize) -> impl Iterator<Item = (i32, f32)> {
        let tokens = self.tokens;
        let parts = sub / 16;
        (0..self.sums.len() / tokens / parts).flat_map(move |index| {
            (0..tokens).map(move |token| {
                let sums =
                    (0..parts).map(|part| self.sums[(index * parts + part) * tokens + token]);
                (
                    sums.sum(),
                    self.scales[index * sub / BLOCK * tokens + token],
                )
            })
        })
    }
}

impl OneToken {
    fn fill(&mut self, scales: &[f32], sums: &[i32]) {
        self.scales16.clear();
        self.sums16.clear();
        self.sums32.clear();
        for (&scale, sums) in scales.iter().zip(sums.as_chunks::<2>().0) {
            self.scales16.extend([scale, scale]);
            self.sums16.extend(sums.map(|sum| scale * sum as f32));
            self.sums32.push(scale * (sums[0] + sums[1]) as f32);
        }
    }
}

struct Quantize<'a> {
    group: &'a mut InputGroup,
    padded: usize,
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let InputGroup {
            tokens,
            values,
            quants,
            scales,
            sums,
            ..
        } = self.group;
        let tokens = *tokens;
        for (token, values) in values.chunks_exact(self.padded).enumerate() {
            for (block, values) in values.as_chunks::<BLOCK>().0.iter().enumerate() {
                let at = block * tokens + token;
                let [low, high] = bytemuck::cast_ref::<_, [[f32; 16]; 2]>(values);
                let (low, high) = (simd.load(low), simd.load(high));
                let largest = simd.maximum(simd.max(simd.abs(low), simd.abs(high)));
                // Below, scales would be denormal, which costs a hundredfold in every product.
                let inverse = if largest > 1e-30 {
                    127.0 / largest
                } else {
                    0.0
                };
                scales[at] = if largest > 1e-30 {
                    largest / 127.0
                } else {
                    0.0
                };
                let halves: &mut [[i8; 16]; 2] = bytemuck::cast_mut(&mut quants[at]);
                for (half, (values, quants)) in [low, high].into_iter().zip(halves).enumerate() {
                    simd.to_i8(simd.mul(values, simd.splat(inverse)), quants);
                    let sum = quants.iter().map(|&quant| i32::from(quant)).sum();
                    sums[(2 * block + half) * tokens + token] = sum;
                }
            }
        }
    }
}
