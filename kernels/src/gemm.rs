//! Many tokens: the panel product.
//!
//! A panel of 16 or 32 weight rows is unpacked from its blocks into one common form, whatever the
//! format, small enough for the L2 cache; then it is multiplied with all tokens before the next one
//! is unpacked. A tile holds the sums of a few tokens times the rows of the panel in registers over
//! the whole length of the rows:
//!
//! ```text
//! for each sub-block of 16 or 32 columns
//!     start    = MAGIC - offset * (sum of the activations)           per token
//!     integers = start + quants . activations                       4 columns per instruction
//!     sum     += (integers - MAGIC) * scale * activation_scale
//!     sum     -= min * activation_scale * (sum of the activations)   formats with mins, or +=
//! ```
//!
//! Rows lie across the lanes, four columns in each; the activations are broadcast from memory. The
//! magic number saves the conversion of the integers (see `MAGIC_BITS`): its product with a scale is
//! exact, as no format's scale has more than 19 significant bits.

use std::marker::PhantomData;

use bytemuck::Zeroable;

use crate::columns::{ColumnsMut, Store};
use crate::format::float::F32;
use crate::format::{
    FloatFormat, FormatVisitor, PackedFormat, QuantFormat, Sixteen, UNIT, Unpack, UnpackedUnit,
    offset, unpack_rows,
};
use crate::inputs::{BLOCK, InputGroup};
use crate::level::Level;
use crate::matrix::Matrix;
use crate::simd::{Kernel, Line, MAGIC_BITS, Quants, Simd, Tile};
use panel::{block_lines, leaves_out, sub_block_lines, unpack_floats, unpack_quants};

mod panel;

/// Rows in a vector.
pub(crate) const LANES: usize = 16;

/// Working memory of a product; one per thread, kept from product to product.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Integers: per sub-block `SUB / 4` steps of `TILE_VECTORS` lines, then as many of scales, then of
    /// mins where the format has them, or of what the instruction set leaves out. Floats: per column
    /// `TILE_VECTORS` lines.
    pub(crate) panel: Vec<Line>,
    corrections: Corrections,
    /// A few rows of a packed format.
    pub(crate) unpacked: Vec<UnpackedUnit>,
}

/// What the sums of the activations contribute, for all tokens of a product:
/// `[group][sub-block][token]`.
#[derive(Debug, Default)]
struct Corrections {
    /// Where the integer sums start.
    starts: Vec<i32>,
    /// What a min is multiplied with: scale times sum of the quants, with the sign of the min. Empty for
    /// formats without mins.
    scaled_sums: Vec<f32>,
}

impl Corrections {
    fn fill<S: Simd, F: QuantFormat>(&mut self, inputs: &[InputGroup]) {
        self.starts.clear();
        self.scaled_sums.clear();
        for group in inputs {
            let sums = group.sums_of(F::SUB);
            let starts = sums.iter().map(|sum| MAGIC_BITS - offset::<S, F>() * sum);
            self.starts.extend(starts);
            if F::MINS.exist() {
                // Two sub-blocks of 16 share a scale.
                let scales = group.scales().chunks_exact(group.tokens());
                let sums = sums.chunks_exact(BLOCK / F::SUB * group.tokens());
                for (scales, sums) in scales.zip(sums) {
                    for sums in sums.chunks_exact(group.tokens()) {
                        let products = scales.iter().zip(sums);
                        self.scaled_sums.extend(
                            products.map(|(scale, &sum)| F::MINS.sign() * scale * sum as f32),
                        );
                    }
                }
            }
        }
    }
}

impl Scratch {
    /// Nothing allocated yet.
    #[must_use]
    pub const fn new() -> Self {
        let corrections = Corrections {
            starts: Vec::new(),
            scaled_sums: Vec::new(),
        };
        Self {
            panel: Vec::new(),
            corrections,
            unpacked: Vec::new(),
        }
    }
}

/// See [`crate::matmul`].
pub(crate) fn multiply(
    level: Level,
    weights: Matrix<'_>,
    inputs: &[InputGroup],
    scratch: &mut Scratch,
    store: Store,
    out: &mut ColumnsMut<'_>,
) {
    weights.format().visit(Multiply {
        level,
        weights,
        unpack: None,
        inputs,
        scratch,
        store,
        out,
    });
}

struct Multiply<'a, 'o> {
    level: Level,
    weights: Matrix<'a>,
    /// What has to be done to the rows first.
    unpack: Option<Unpack>,
    inputs: &'a [InputGroup],
    scratch: &'a mut Scratch,
    store: Store,
    out: &'a mut ColumnsMut<'o>,
}

impl FormatVisitor for Multiply<'_, '_> {
    type Output = ();
    fn quants<F: QuantFormat>(self) {
        self.level.run(QuantProduct::<F>(self, PhantomData));
    }
    fn packed<F: PackedFormat>(mut self) {
        self.unpack = Some(unpack_rows::<F>);
        self.quants::<F::Unpacked>();
    }
    fn floats<F: FloatFormat>(self) {
        self.level.run(FloatProduct::<F>(self, PhantomData));
    }
}

struct QuantProduct<'a, 'o, F>(Multiply<'a, 'o>, PhantomData<F>);

impl<F: QuantFormat> Kernel for QuantProduct<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Multiply {
            level,
            weights,
            unpack,
            inputs,
            scratch,
            store,
            out,
        } = self.0;
        let Scratch {
            panel,
            corrections,
            unpacked,
        } = scratch;
        corrections.fill::<S, F>(inputs);
        let blocks = weights.cols().div_ceil(BLOCK);
        // The panel is written unit by unit; the tile stops behind the last block.
        panel.resize(
            blocks.next_multiple_of(UNIT / BLOCK) * block_lines::<S, F>(),
            Line::zeroed(),
        );
        let panel_rows = LANES * S::TILE_VECTORS;
        for first in (0..weights.rows()).step_by(panel_rows) {
            let (rows, at) = if let Some(unpack) = unpack {
                let packed = weights.narrow(first..weights.rows().min(first + panel_rows));
                unpack(level, packed, unpacked);
                (Matrix::of_units(packed, unpacked), 0)
            } else {
                (weights, first)
            };
            for vector in 0..S::TILE_VECTORS {
                unpack_quants::<S, F>(simd, &rows, at + LANES * vector, vector, panel);
            }
            let mut ahead = next_panel(&weights, first + panel_rows, panel_rows, inputs.len());
            let (mut token, mut at) = (0, 0);
            for group in inputs {
                if let Some(bytes) = ahead.next() {
                    simd.prefetch_lines(bytes.as_ptr(), bytes.len());
                }
                let sub_blocks = group.tokens() * group.padded_cols() / F::SUB;
                let starts = &corrections.starts[at..at + sub_blocks];
                let scaled_sums = corrections
                    .scaled_sums
                    .get(at..at + sub_blocks)
                    .unwrap_or(&[]);
                let target = Target {
                    out,
                    store,
                    token,
                    first,
                };
                let tile = QuantTile {
                    panel: &panel[..blocks * block_lines::<S, F>()],
                    group,
                    starts,
                    scaled_sums,
                    target,
                };
                // By what the panel shows of the format: formats that agree in it share their tiles.
                match (F::SUB, F::MINS.exist()) {
                    (16, false) => tile.run_on::<S, F::Quants, 16, false>(simd),
                    (16, true) => tile.run_on::<S, F::Quants, 16, true>(simd),
                    (32, false) => tile.run_on::<S, F::Quants, 32, false>(simd),
                    (32, true) => tile.run_on::<S, F::Quants, 32, true>(simd),
                    (sub, _) => unreachable!("sub-blocks of {sub} values"),
                }
                token += group.tokens();
                at += sub_blocks;
            }
        }
    }
}

/// The bytes of the rows `first..first + rows`, as far as they exist, in `parts` parts: while a panel is
/// multiplied with as many groups, the next one comes into the cache.
fn next_panel<'a>(
    weights: &Matrix<'a>,
    first: usize,
    rows: usize,
    parts: usize,
) -> impl Iterator<Item = &'a [u8]> {
    let range = first.min(weights.rows())..(first + rows).min(weights.rows());
    let bytes = weights.narrow(range).bytes();
    bytes.chunks(bytes.len().div_ceil(parts.max(1)).max(1))
}

/// Where the sums of a tile go.
pub(crate) struct Target<'a, 'o> {
    pub(crate) out: &'a mut ColumnsMut<'o>,
    pub(crate) store: Store,
    /// Row of `out` of the group's first token.
    pub(crate) token: usize,
    /// Column of `out` of the panel's first row.
    pub(crate) first: usize,
}

impl Target<'_, '_> {
    #[inline(always)]
    fn put<S: Simd, const TOKENS: usize, const VECTORS: usize>(
        self,
        simd: S,
        sums: [[S::Floats; VECTORS]; TOKENS],
    ) {
        for (token, sums) in sums.into_iter().enumerate() {
            let row = &mut self.out.row(self.token + token)[self.first..];
            for (vector, sums) in sums.into_iter().enumerate() {
                let Some(row) = row.get_mut(LANES * vector..) else {
                    break;
                };
                if let Some(values) = row.first_chunk_mut() {
                    let sums = if self.store == Store::Add {
                        simd.add(simd.load(values), sums)
                    } else {
                        sums
                    };
                    simd.store(sums, values);
                } else {
                    let mut values = [0.0; LANES];
                    simd.store(sums, &mut values);
                    for (to, value) in row.iter_mut().zip(values) {
                        *to = if self.store == Store::Add {
                            *to + value
                        } else {
                            value
                        };
                    }
                }
            }
        }
    }
}

struct QuantTile<'a, 'o> {
    panel: &'a [Line],
    group: &'a InputGroup,
    starts: &'a [i32],
    scaled_sums: &'a [f32],
    target: Target<'a, 'o>,
}

impl QuantTile<'_, '_> {
    /// Runs the tile on a panel of sub-blocks of `SUB` values, with mins or without.
    #[inline(always)]
    fn run_on<S: Simd, Q: Quants, const SUB: usize, const MINS: bool>(self, simd: S) {
        let tokens = self.group.tokens();
        simd.tile(tokens, Formed::<Q, SUB, MINS>(self, PhantomData));
    }
}

/// A tile of a known form of the panel.
struct Formed<'a, 'o, Q, const SUB: usize, const MINS: bool>(QuantTile<'a, 'o>, PhantomData<Q>);

impl<Q: Quants, const SUB: usize, const MINS: bool> Tile for Formed<'_, '_, Q, SUB, MINS> {
    #[inline(always)]
    fn run<S: Simd, const TOKENS: usize, const VECTORS: usize>(self, simd: S) {
        let tile = self.0;
        let steps = SUB / 4;
        let quants = tile.group.quants().as_chunks::<TOKENS>().0;
        let scales = tile.group.scales().as_chunks::<TOKENS>().0;
        let starts = tile.starts.as_chunks::<TOKENS>().0;
        let scaled_sums = tile.scaled_sums.as_chunks::<TOKENS>().0;
        let mut sums = [[simd.splat(0.0); VECTORS]; TOKENS];
        let sub_blocks = tile
            .panel
            .chunks_exact(sub_block_lines::<S, Q>(SUB, MINS))
            .zip(starts);
        for (index, (lines, starts)) in sub_blocks.enumerate() {
            let block = index * SUB / BLOCK;
            let (quants, scales) = (&quants[block], &scales[block]);
            let first_step = index * steps % 8;
            let mut integers = [[simd.splat_int(0); VECTORS]; TOKENS];
            for token in 0..TOKENS {
                integers[token] = [simd.dot_start::<Q>(starts[token]); VECTORS];
            }
            let at = (&lines[..steps * VECTORS], quants, first_step);
            match S::steps_at_once::<Q>() {
                4 => integers = add_steps::<S, Q, TOKENS, VECTORS, 4>(simd, integers, at),
                2 => integers = add_steps::<S, Q, TOKENS, VECTORS, 2>(simd, integers, at),
                _ => integers = add_steps::<S, Q, TOKENS, VECTORS, 1>(simd, integers, at),
            }
            for vector in 0..VECTORS {
                let weight_scales = simd.load(lines[steps * VECTORS + vector].floats());
                for token in 0..TOKENS {
                    let mut scaled =
                        simd.dot_end::<Q>(integers[token][vector], starts[token], weight_scales);
                    if leaves_out::<S, Q>() {
                        let left_out = &lines[(steps + 1) * VECTORS + vector];
                        scaled = simd.add(scaled, simd.load(left_out.floats()));
                    }
                    let scale = simd.splat(scales[token]);
                    sums[token][vector] = simd.mul_add(scaled, scale, sums[token][vector]);
                    if MINS {
                        let mins = simd.load(lines[(steps + 1) * VECTORS + vector].floats());
                        let scaled_sum = simd.splat(scaled_sums[index][token]);
                        sums[token][vector] = simd.mul_add(mins, scaled_sum, sums[token][vector]);
                    }
                }
            }
        }
        tile.target.put(simd, sums);
    }
}

/// Adds the products of a sub-block, `N` steps at a time: of its lines and the quants of the tokens,
/// from a step of their block on.
#[inline(always)]
fn add_steps<S: Simd, Q: Quants, const TOKENS: usize, const VECTORS: usize, const N: usize>(
    simd: S,
    mut integers: [[S::Ints; VECTORS]; TOKENS],
    (lines, quants, first_step): (&[Line], &[[[i8; 4]; 8]; TOKENS], usize),
) -> [[S::Ints; VECTORS]; TOKENS] {
    let steps = lines.as_chunks::<VECTORS>().0.as_chunks::<N>().0;
    for (index, steps) in steps.iter().enumerate() {
        let mut weights = [[simd.bits(simd.splat(0.0)); N]; VECTORS];
        for vector in 0..VECTORS {
            for i in 0..N {
                weights[vector][i] = simd.load_bytes(&steps[i][vector].0);
            }
        }
        for token in 0..TOKENS {
            let mut activations = [[0; 4]; N];
            for i in 0..N {
                activations[i] = quants[token][first_step + N * index + i];
            }
            for vector in 0..VECTORS {
                integers[token][vector] =
                    simd.dot_steps::<Q, N>(integers[token][vector], weights[vector], activations);
            }
        }
    }
    integers
}

struct FloatProduct<'a, 'o, F>(Multiply<'a, 'o>, PhantomData<F>);

impl<F: FloatFormat> Kernel for FloatProduct<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Multiply {
            weights,
            inputs,
            scratch,
            store,
            out,
            ..
        } = self.0;
        let panel = &mut scratch.panel;
        panel.resize(
            weights.cols().next_multiple_of(LANES) * S::TILE_VECTORS,
            Line::zeroed(),
        );
        for first in (0..weights.rows()).step_by(LANES * S::TILE_VECTORS) {
            for vector in 0..S::TILE_VECTORS {
                unpack_floats::<S, F>(simd, &weights, first + LANES * vector, vector, panel);
            }
            let panel = Panel::<F32> {
                chunks: bytemuck::cast_slice(panel),
                columns: weights.cols(),
                column_step: S::TILE_VECTORS,
                vector_step: 1,
            };
            let mut token = 0;
            for group in inputs {
                let target = Target {
                    out,
                    store,
                    token,
                    first,
                };
                let (values, stride) = (group.values(), group.padded_cols());
                simd.tile(
                    group.tokens(),
                    FloatTile {
                        panel,
                        values,
                        stride,
                        target,
                    },
                );
                token += group.tokens();
            }
        }
    }
}

/// Rows of floats times a panel of [`Sixteen`]s.
pub(crate) struct FloatTile<'a, 'o, C: Sixteen> {
    pub(crate) panel: Panel<'a, C>,
    /// `[tokens, stride]`.
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) target: Target<'a, 'o>,
}

/// Columns of one or two vectors.
pub(crate) struct Panel<'a, C: Sixteen> {
    pub(crate) chunks: &'a [C::Chunk],
    pub(crate) columns: usize,
    /// Chunks from a column to the next.
    pub(crate) column_step: usize,
    /// Chunks from a column's first vector to its second one.
    pub(crate) vector_step: usize,
}

impl<C: Sixteen> Clone for Panel<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Sixteen> Copy for Panel<'_, C> {}

impl<C: Sixteen> Tile for FloatTile<'_, '_, C> {
    #[inline(always)]
    fn run<S: Simd, const TOKENS: usize, const VECTORS: usize>(self, simd: S) {
        let Panel {
            chunks,
            columns,
            column_step,
            vector_step,
        } = self.panel;
        let rows: [&[f32]; TOKENS] =
            std::array::from_fn(|token| &self.values[token * self.stride..][..columns]);
        let mut sums = [[simd.splat(0.0); VECTORS]; TOKENS];
        for column in 0..columns {
            let mut weights = [simd.splat(0.0); VECTORS];
            for vector in 0..VECTORS {
                let chunk = &chunks[column * column_step + vector * vector_step];
                weights[vector] = C::floats(simd, chunk);
            }
            for token in 0..TOKENS {
                let value = simd.splat(rows[token][column]);
                for vector in 0..VECTORS {
                    sums[token][vector] = simd.mul_add(weights[vector], value, sums[token][vector]);
                }
            }
        }
        self.target.put(simd, sums);
    }
}
