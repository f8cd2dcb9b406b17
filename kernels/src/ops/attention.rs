//! Attention of a few query rows over one head of the KV cache, with online softmax.
//!
//! ```text
//! for each block of 256 positions
//!     scores = queries . keys                              panel product, keys as the weights
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

use super::elementwise::{exp_sum, largest};
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
    /// `[rows, head_dim]`, rotated and scaled.
    pub queries: &'a [f32],
    /// The positions that each row sees.
    pub visible: &'a [Range<usize>],
    /// How keys and values lie.
    pub layout: HeadLayout,
    /// The head's keys.
    pub keys: &'a [Line],
    /// The head's values.
    pub values: &'a [Line],
}

/// `out[row] = sum over the visible positions of softmax(queries . keys) * values`, row-major
/// `[rows, head_dim]`. A row that sees nothing gets zeros.
///
/// # Panics
/// If the shapes do not agree.
pub fn attend(
    level: Level,
    attention: Attention<'_>,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let Attention {
        queries,
        visible,
        layout,
        keys,
        values,
    } = attention;
    let rows = visible.len() * layout.head_dim;
    assert_eq!((queries.len(), out.len()), (rows, rows), "rows");
    assert_eq!(
        (keys.len(), values.len()),
        (layout.lines(), layout.lines()),
        "lines of the cache"
    );
    assert!(
        visible.iter().all(|range| range.end <= layout.capacity()),
        "visible positions in the cache"
    );
    let attend = Attend {
        attention,
        scratch,
        out,
    };
    match layout.cache_type {
        CacheType::F32 => level.run(AttendIn::<F32>(attend, PhantomData)),
        CacheType::F16 => level.run(AttendIn::<F16>(attend, PhantomData)),
        CacheType::Q8_0 => level.run(AttendIn::<Bytes>(attend, PhantomData)),
    }
}

/// Working memory of [`attend`]; one per thread, kept from call to call.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// `[rows, padded head_dim]`
    queries: Vec<f32>,
    /// `[rows, POSITIONS]`: scores, then their exponentials.
    scores: Vec<f32>,
    /// `[rows, POSITIONS]`: scores of a block of dimensions, or exponentials times its scales.
    scaled: Vec<f32>,
    /// `[rows, padded head_dim]`
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
        let head_dim = attention.layout.head_dim;
        let padded = attention.layout.padded_dim();
        scratch.start(visible.len(), attention.queries, head_dim, padded);
        let first = visible.iter().map(|range| range.start).min().unwrap_or(0);
        let end = visible.iter().map(|range| range.end).max().unwrap_or(0);
        for start in (first / POSITIONS * POSITIONS..end).step_by(POSITIONS) {
            let block = start..end.min(start + POSITIONS);
            scratch.add_keys::<S, C>(simd, &attention, &block);
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
    fn start(&mut self, rows: usize, queries: &[f32], head_dim: usize, padded: usize) {
        self.queries.clear();
        self.queries.resize(rows * padded, 0.0);
        for (to, query) in self
            .queries
            .chunks_exact_mut(padded)
            .zip(queries.chunks_exact(head_dim))
        {
            to[..head_dim].copy_from_slice(query);
        }
        self.scores.resize(rows * POSITIONS, 0.0);
        self.scaled.resize(rows * POSITIONS, 0.0);
        self.out.clear();
        self.out.resize(rows * padded, 0.0);
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
        let Attention { layout, keys, .. } = *attention;
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
        let Attention { layout, values, .. } = *attention;
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
