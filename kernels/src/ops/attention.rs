//! Attention of a few query rows over one head of the KV cache, with online softmax.
//!
//! ```text
//! for each block of 256 positions
//!     scores = queries . keys                              panel product, keys as the weights
//!     scores = cap * tanh(scores / cap) + slope * distance where the model has them
//!     new    = max(maximum, scores);  shrink = e^(maximum - new)
//!     p      = e^(scores - new), zero where a row does not see
//!     sum    = sum * shrink + (sum of p)
//!     out    = out * shrink + p . values                   panel product, values as the weights
//! out /= sum
//! ```
//!
//! The scores of a block are all that is ever materialised (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018; Dao et al., "FlashAttention", 2022). The rows are the query heads
//! that share a key head, for one or several tokens. Keys and values are multiplied as they lie in the
//! cache (see `kv`).

use std::marker::PhantomData;
use std::ops::Range;

use super::elementwise::{exp_sum, largest, soft_cap_in};
use super::kv::{BLOCK, Bytes, CacheType, HeadLayout};
use crate::columns::{ColumnsMut, Store};
use crate::format::Sixteen;
use crate::format::float::{F16, F32};
use crate::gemm::{FloatTile, LANES, Panel, Target};
use crate::level::Level;
use crate::simd::{Kernel, Line, Simd};

/// Positions whose scores are materialised at a time.
const POSITIONS: usize = 256;

/// What [`attend`] computes.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `[rows, key head_dim]`, rotated and scaled.
    pub queries: &'a [f32],
    /// The positions that each row sees.
    pub visible: &'a [Range<usize>],
    /// How far away positions are disfavoured: of each row, or of none.
    pub alibi: &'a [Alibi],
    /// What keeps scores in bounds, see [`soft_cap`](super::soft_cap).
    pub soft_cap: Option<f32>,
    /// The head's keys, and how they lie.
    pub keys: (HeadLayout, &'a [Line]),
    /// The head's values, and how they lie: with the same capacity and type.
    pub values: (HeadLayout, &'a [Line]),
}

/// Attention with linear biases: `slope * (s - position)` is added to the score of position `s` (Press et
/// al., "Train Short, Test Long", 2021).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alibi {
    /// Of the row's head.
    pub slope: f32,
    /// The row's own position.
    pub position: usize,
}

/// `out[row] = sum over the visible positions of softmax(queries . keys) * values`, row-major
/// `[rows, value head_dim]`. A row that sees nothing gets zeros.
///
/// # Panics
/// If the shapes do not agree.
pub fn attend(
    level: Level,
    attention: Attention<'_>,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    attention.check(out);
    let attend = Attend {
        attention,
        scratch,
        out,
    };
    match attention.keys.0.cache_type {
        CacheType::F32 => level.run(AttendIn::<F32>(attend, PhantomData)),
        CacheType::F16 => level.run(AttendIn::<F16>(attend, PhantomData)),
        CacheType::Q8_0 => level.run(AttendIn::<Bytes>(attend, PhantomData)),
    }
}

impl Attention<'_> {
    fn check(&self, out: &[f32]) {
        let rows = self.visible.len();
        let ((keys, key_lines), (values, value_lines)) = (self.keys, self.values);
        assert_eq!(
            (self.queries.len(), out.len()),
            (rows * keys.head_dim, rows * values.head_dim),
            "rows"
        );
        assert!([0, rows].contains(&self.alibi.len()), "biases of all rows");
        assert_eq!(
            (key_lines.len(), value_lines.len()),
            (keys.lines(), values.lines()),
            "lines of the cache"
        );
        assert_eq!(
            (keys.cache_type, keys.capacity()),
            (values.cache_type, values.capacity()),
            "keys and values alike"
        );
        assert!(
            self.visible
                .iter()
                .all(|range| range.end <= keys.capacity()),
            "visible positions in the cache"
        );
    }
}

/// Working memory of [`attend`]; one per thread, kept from call to call.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// `[rows, padded key head_dim]`
    queries: Vec<f32>,
    /// `[rows, POSITIONS]`: scores, then their exponentials.
    scores: Vec<f32>,
    /// `[rows, POSITIONS]`: scores of a block of dimensions, or exponentials times its scales.
    scaled: Vec<f32>,
    /// `[rows, padded value head_dim]`
    out: Vec<f32>,
    /// Maximum and sum of each row so far.
    softmax: Vec<[f32; 2]>,
}

impl AttentionScratch {
    /// Nothing allocated yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queries: Vec::new(),
            scores: Vec::new(),
            scaled: Vec::new(),
            out: Vec::new(),
            softmax: Vec::new(),
        }
    }

    /// Of each row of the last call: the largest score, and the sum of the exponentials of the scores
    /// minus it. With them the outputs for several ranges of positions can be merged.
    #[must_use]
    pub fn softmax(&self) -> &[[f32; 2]] {
        &self.softmax
    }
}

struct Attend<'a, 'o> {
    attention: Attention<'a>,
    scratch: &'a mut AttentionScratch,
    out: &'o mut [f32],
}

struct AttendIn<'a, 'o, C>(Attend<'a, 'o>, PhantomData<C>);

impl<C: Sixteen> Kernel for AttendIn<'_, '_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Attend {
            attention,
            scratch,
            out,
        } = self.0;
        let visible = attention.visible;
        let (head_dim, padded) = (attention.values.0.head_dim, attention.values.0.padded_dim());
        scratch.start(&attention);
        let first = visible.iter().map(|range| range.start).min().unwrap_or(0);
        let end = visible.iter().map(|range| range.end).max().unwrap_or(0);
        for start in (first / POSITIONS * POSITIONS..end).step_by(POSITIONS) {
            let block = start..end.min(start + POSITIONS);
            scratch.add_keys::<S, C>(simd, &attention, &block);
            scratch.adjust(simd, &attention, &block);
            scratch.exponentials(simd, visible, &block, padded);
            scratch.add_values::<S, C>(simd, &attention, &block);
        }
        for ((out, row), [_, sum]) in out
            .chunks_exact_mut(head_dim)
            .zip(scratch.out.chunks_exact(padded))
            .zip(&scratch.softmax)
        {
            let scale = if *sum > 0.0 { 1.0 / sum } else { 0.0 };
            for (out, value) in out.iter_mut().zip(row) {
                *out = value * scale;
            }
        }
    }
}

/// The product of a panel with rows of values that are `stride` apart, at columns `first..` of `out`,
/// row-major `[rows, cols]`.
#[inline(always)]
fn product<S: Simd, C: Sixteen>(
    simd: S,
    panel: Panel<'_, C>,
    (values, stride): (&[f32], usize),
    store: Store,
    first: usize,
    (out, cols): (&mut [f32], usize),
) {
    let rows = out.len() / cols;
    let mut out = ColumnsMut::new(out, cols);
    let groups = rows.div_ceil(S::TILE_TOKENS);
    for group in 0..groups {
        let (start, end) = (group * rows / groups, (group + 1) * rows / groups);
        let target = Target {
            out: &mut out,
            store,
            token: start,
            first,
        };
        let values = &values[start * stride..];
        simd.tile(
            end - start,
            FloatTile {
                panel,
                values,
                stride,
                target,
            },
        );
    }
}

/// `to = values * scales`, or added to it, row by row.
#[inline(always)]
fn scale_rows<S: Simd>(simd: S, values: &[f32], scales: &[f32], add: bool, to: &mut [f32]) {
    let rows = to.chunks_exact_mut(POSITIONS);
    for (to, values) in rows.zip(values.chunks_exact(POSITIONS)) {
        let vectors = to.as_chunks_mut().0.iter_mut().zip(values.as_chunks().0);
        for ((to, values), scales) in vectors.zip(scales.as_chunks().0) {
            let before = if add { simd.load(to) } else { simd.splat(0.0) };
            let scaled = simd.mul_add(simd.load(values), simd.load(scales), before);
            simd.store(scaled, to);
        }
    }
}

impl AttentionScratch {
    fn start(&mut self, attention: &Attention<'_>) {
        let rows = attention.visible.len();
        let (keys, values) = (attention.keys.0, attention.values.0);
        let head_dim = keys.head_dim;
        self.queries.clear();
        self.queries.resize(rows * keys.padded_dim(), 0.0);
        for (to, query) in self
            .queries
            .chunks_exact_mut(keys.padded_dim())
            .zip(attention.queries.chunks_exact(head_dim))
        {
            to[..head_dim].copy_from_slice(query);
        }
        self.scores.resize(rows * POSITIONS, 0.0);
        self.scaled.resize(rows * POSITIONS, 0.0);
        self.out.clear();
        self.out.resize(rows * values.padded_dim(), 0.0);
        self.softmax.clear();
        self.softmax.resize(rows, [f32::NEG_INFINITY, 0.0]);
    }

    /// The scores of `block`.
    #[inline(always)]
    fn add_keys<S: Simd, C: Sixteen>(
        &mut self,
        simd: S,
        attention: &Attention<'_>,
        block: &Range<usize>,
    ) {
        let (layout, keys) = attention.keys;
        let (head_dim, padded) = (layout.head_dim, layout.padded_dim());
        let scaled = layout.cache_type == CacheType::Q8_0;
        let chunks: &[C::Chunk] = bytemuck::cast_slice(keys);
        // Without scales all dimensions are one block.
        for dim in (0..head_dim).step_by(if scaled { BLOCK } else { head_dim }) {
            let to = if scaled {
                &mut self.scaled
            } else {
                &mut self.scores
            };
            for position in block.clone().step_by(LANES * S::TILE_VECTORS) {
                let panel = Panel::<C> {
                    chunks: &chunks[position / LANES * head_dim + dim..],
                    columns: if scaled {
                        BLOCK.min(head_dim - dim)
                    } else {
                        head_dim
                    },
                    column_step: 1,
                    vector_step: head_dim,
                };
                let queries = (&self.queries[dim..], padded);
                let first = position - block.start;
                product(simd, panel, queries, Store::Replace, first, (to, POSITIONS));
            }
            if scaled {
                let scales = &layout.scales(keys, dim / BLOCK)[block.start..];
                scale_rows(simd, &self.scaled, scales, dim > 0, &mut self.scores);
            }
        }
    }

    /// Adds the values of `block`, times the exponentials.
    #[inline(always)]
    fn add_values<S: Simd, C: Sixteen>(
        &mut self,
        simd: S,
        attention: &Attention<'_>,
        block: &Range<usize>,
    ) {
        let (layout, values) = attention.values;
        let padded = layout.padded_dim();
        let scaled = layout.cache_type == CacheType::Q8_0;
        let chunks: &[C::Chunk] = bytemuck::cast_slice(values);
        for dim in (0..padded).step_by(LANES * S::TILE_VECTORS) {
            if scaled && dim % BLOCK == 0 {
                let scales = &layout.scales(values, dim / BLOCK)[block.start..];
                scale_rows(simd, &self.scores, scales, false, &mut self.scaled);
            }
            let panel = Panel::<C> {
                chunks: &chunks[(block.start * padded + dim) / LANES..],
                columns: block.len(),
                column_step: padded / LANES,
                vector_step: 1,
            };
            let exponentials = if scaled { &self.scaled } else { &self.scores };
            let out = (&mut self.out[..], padded);
            product(simd, panel, (exponentials, POSITIONS), Store::Add, dim, out);
        }
    }

    /// Bounds and biases the scores of `block`.
    #[inline(always)]
    fn adjust<S: Simd>(&mut self, simd: S, attention: &Attention<'_>, block: &Range<usize>) {
        if let Some(cap) = attention.soft_cap {
            soft_cap_in(simd, cap, &mut self.scores);
        }
        let rows = self.scores.chunks_exact_mut(POSITIONS);
        for (scores, &Alibi { slope, position }) in rows.zip(attention.alibi) {
            for (score, other) in scores.iter_mut().zip(block.clone()) {
                *score += slope * (other as f32 - position as f32);
            }
        }
    }

    /// Turns the scores of `block` into exponentials and shrinks what was summed before.
    #[inline(always)]
    fn exponentials<S: Simd>(
        &mut self,
        simd: S,
        visible: &[Range<usize>],
        block: &Range<usize>,
        padded: usize,
    ) {
        let rows = self
            .scores
            .chunks_exact_mut(POSITIONS)
            .zip(self.out.chunks_exact_mut(padded));
        for (((scores, out), [maximum, sum]), visible) in rows.zip(&mut self.softmax).zip(visible) {
            let scores = &mut scores[..block.len()];
            let start = visible.start.clamp(block.start, block.end) - block.start;
            let end = visible.end.clamp(block.start, block.end) - block.start;
            if start >= end {
                scores.fill(0.0);
                continue;
            }
            scores[..start].fill(0.0);
            scores[end..].fill(0.0);
            let scores = &mut scores[start..end];
            let largest = largest(simd, scores, *maximum);
            let shrink = (*maximum - largest).exp();
            *sum = *sum * shrink + exp_sum(simd, scores, largest);
            *maximum = largest;
            if shrink != 1.0 {
                for value in out {
                    *value *= shrink;
                }
            }
        }
    }
}
