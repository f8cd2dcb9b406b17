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
//! that share a key head, for one or several tokens, so a key is unpacked once for all of them.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Zeroable;

use super::elementwise::{exp_sum, largest};
use crate::columns::{ColumnsMut, Store};
use crate::format::{FloatFormat, FormatVisitor, QuantFormat};
use crate::gemm::{FloatTile, LANES, Target, unpack_floats};
use crate::level::Level;
use crate::matrix::Matrix;
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
    /// `[positions, head_dim]`, floats.
    pub keys: Matrix<'a>,
    /// `[positions, head_dim]`, in the format of the keys.
    pub values: Matrix<'a>,
}

/// `out[row] = sum over the visible positions of softmax(queries . keys) * values`, row-major
/// `[rows, head_dim]`. A row that sees nothing gets zeros.
///
/// # Panics
/// If the shapes do not agree, or the cache does not hold floats of one format.
pub fn attend(
    level: Level,
    attention: Attention<'_>,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let Attention {
        queries,
        visible,
        keys,
        values,
    } = attention;
    let head_dim = keys.cols();
    assert_eq!(
        (values.rows(), values.cols()),
        (keys.rows(), head_dim),
        "keys and values"
    );
    assert_eq!(values.format(), keys.format(), "format of keys and values");
    assert_eq!(
        (queries.len(), out.len()),
        (visible.len() * head_dim, visible.len() * head_dim),
        "rows"
    );
    assert!(
        visible.iter().all(|range| range.end <= keys.rows()),
        "visible positions in the cache"
    );
    keys.format().visit(Attend {
        level,
        attention,
        scratch,
        out,
    });
}

/// Working memory of [`attend`]; one per thread, kept from call to call.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// Keys of a panel: `[padded head_dim][TILE_VECTORS]`
    keys: Vec<Line>,
    /// `[rows, padded head_dim]`
    queries: Vec<f32>,
    /// `[rows, POSITIONS]`: scores, then their exponentials.
    scores: Vec<f32>,
    /// `[padded head_dim / panel width][POSITIONS][TILE_VECTORS]`
    values: Vec<Line>,
    /// `[rows, padded head_dim]`
    out: Vec<f32>,
    /// Maximum and sum of each row so far.
    softmax: Vec<(f32, f32)>,
}

impl AttentionScratch {
    /// Nothing allocated yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keys: Vec::new(),
            queries: Vec::new(),
            scores: Vec::new(),
            values: Vec::new(),
            out: Vec::new(),
            softmax: Vec::new(),
        }
    }
}

struct Attend<'a, 'o> {
    level: Level,
    attention: Attention<'a>,
    scratch: &'a mut AttentionScratch,
    out: &'o mut [f32],
}

impl FormatVisitor for Attend<'_, '_> {
    type Output = ();
    fn quants<F: QuantFormat>(self) {
        panic!("the KV cache holds floats")
    }
    fn floats<F: FloatFormat>(self) {
        self.level.run(AttendFloats::<F>(self, PhantomData));
    }
}

struct AttendFloats<'a, 'o, F>(Attend<'a, 'o>, PhantomData<F>);

impl<F: FloatFormat> Kernel for AttendFloats<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Attend {
            attention,
            scratch,
            out,
            ..
        } = self.0;
        let visible = attention.visible;
        let head_dim = attention.keys.cols();
        let width = LANES * S::TILE_VECTORS;
        let padded = head_dim.next_multiple_of(width);
        let state = scratch;
        state.start(visible.len(), attention.queries, head_dim, padded);
        state
            .values
            .resize(padded / LANES * POSITIONS, Line::zeroed());
        state.keys.resize(
            head_dim.next_multiple_of(LANES) * S::TILE_VECTORS,
            Line::zeroed(),
        );
        let first = visible.iter().map(|range| range.start).min().unwrap_or(0);
        let end = visible.iter().map(|range| range.end).max().unwrap_or(0);
        for start in (first / POSITIONS * POSITIONS..end).step_by(POSITIONS) {
            let block = start..end.min(start + POSITIONS);
            let keys = attention.keys.narrow(block.clone());
            for first in (0..keys.rows()).step_by(width) {
                for vector in 0..S::TILE_VECTORS {
                    unpack_floats::<S, F>(
                        simd,
                        &keys,
                        first + LANES * vector,
                        vector,
                        &mut state.keys,
                    );
                }
                let panel = &state.keys[..head_dim * S::TILE_VECTORS];
                let (queries, scores) = (&state.queries, &mut state.scores);
                product(
                    simd,
                    Inputs {
                        panel,
                        values: queries,
                        stride: padded,
                    },
                    Store::Replace,
                    first,
                    POSITIONS,
                    scores,
                );
            }
            state.exponentials(simd, visible, &block, padded);
            unpack_values::<S, F>(
                simd,
                attention.values.narrow(block.clone()),
                &mut state.values,
            );
            for (index, panel) in state
                .values
                .chunks_exact(POSITIONS * S::TILE_VECTORS)
                .enumerate()
            {
                let panel = &panel[..block.len() * S::TILE_VECTORS];
                let inputs = Inputs {
                    panel,
                    values: &state.scores,
                    stride: POSITIONS,
                };
                product(
                    simd,
                    inputs,
                    Store::Add,
                    index * width,
                    padded,
                    &mut state.out,
                );
            }
        }
        for ((out, row), (_, sum)) in out
            .chunks_exact_mut(head_dim)
            .zip(state.out.chunks_exact(padded))
            .zip(&state.softmax)
        {
            let scale = if *sum > 0.0 { 1.0 / sum } else { 0.0 };
            for (out, value) in out.iter_mut().zip(row) {
                *out = value * scale;
            }
        }
    }
}

/// One panel and all rows that are multiplied with it.
struct Inputs<'a> {
    panel: &'a [Line],
    values: &'a [f32],
    stride: usize,
}

/// The product of a panel with all rows, at columns `first..` of `out`, row-major `[rows, cols]`.
#[inline(always)]
fn product<S: Simd>(
    simd: S,
    inputs: Inputs<'_>,
    store: Store,
    first: usize,
    cols: usize,
    out: &mut [f32],
) {
    let Inputs {
        panel,
        values,
        stride,
    } = inputs;
    let rows = values.len() / stride;
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
        let values = &values[start * stride..end * stride];
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
        self.out.clear();
        self.out.resize(rows * padded, 0.0);
        self.softmax.clear();
        self.softmax.resize(rows, (f32::NEG_INFINITY, 0.0));
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
        for (((scores, out), (maximum, sum)), visible) in rows.zip(&mut self.softmax).zip(visible) {
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

/// Unpacks rows of values: the positions are the columns of the product, so nothing is transposed.
#[inline(always)]
fn unpack_values<S: Simd, F: FloatFormat>(simd: S, values: Matrix<'_>, panels: &mut [Line]) {
    let whole_bytes = values.cols() / LANES * size_of::<F::Chunk>();
    for position in 0..values.rows() {
        let (whole, rest) = values.row(position).split_at(whole_bytes);
        let chunks: &[F::Chunk] = bytemuck::cast_slice(whole);
        for (index, chunk) in chunks.iter().enumerate() {
            let line = value_line::<S>(position, index);
            simd.store(F::floats(simd, chunk), panels[line].floats_mut());
        }
        if !rest.is_empty() {
            let mut chunk = F::Chunk::zeroed();
            bytemuck::bytes_of_mut(&mut chunk)[..rest.len()].copy_from_slice(rest);
            let line = value_line::<S>(position, chunks.len());
            simd.store(F::floats(simd, &chunk), panels[line].floats_mut());
        }
    }
}

/// Where the 16 values number `index` of a position lie.
const fn value_line<S: Simd>(position: usize, index: usize) -> usize {
    let (panel, vector) = (index / S::TILE_VECTORS, index % S::TILE_VECTORS);
    (panel * POSITIONS + position) * S::TILE_VECTORS + vector
}
