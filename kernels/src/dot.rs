//! One token, or a few: dot products of each row, read once, straight from the file's layout.
//!
//! For each unit of 256 values, with the scales of the row's sub-blocks multiplied by those of the
//! activations,
//!
//! ```text
//! sum      += scale * activation_scale * (quants . activations)      integers, 128 values at a time
//! subtract += min * activation_scale * (sum of activations)
//! ```
//!
//! where a format without mins has `OFFSET * scale` for its min. The activations lie in the order in
//! which the format gives its quants, see [`Order`](crate::format::Order). What counts is that the row
//! streams from memory at full speed: few instructions per byte, and a software prefetch that runs a
//! few KiB ahead, over the end of the row.

use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use crate::columns::{ColumnsMut, Store};
use crate::format::{
    FloatFormat, FormatVisitor, HALF, PackedFormat, QuantFormat, UNIT, UnpackedUnit, offset,
    stored_quants, unpack_rows,
};
use crate::inputs::{InputGroup, UnitInput};
use crate::level::Level;
use crate::matrix::Matrix;
use crate::simd::{Kernel, Simd};

/// Bytes that the prefetch is ahead. Mapped files of hundreds of MB, AVX-512: on Sapphire Rapids Q4_0
/// reads 16.1 GB/s and Q8_0 17.3 with 2 KiB, 15.1 and 15.8 with 3 KiB; on Zen 4 4 KiB are up to 16 %
/// better than 2, and 3 nearly as good as 4.
const PREFETCH: usize = 3072;

/// The most tokens whose sums are in registers at a time.
const AT_ONCE: usize = 4;

/// Bytes of rows that stay in the cache from the first tokens to the last.
const KEPT: usize = 128 << 10;

/// Units that are unpacked at a time: they shall stay in the L1 cache.
const UNPACKED: usize = 64;

/// `out[t, r] = weights[r] . inputs[t]`, or added to it: groups of one token, at most
/// [`Simd::DOT_TOKENS`].
pub(crate) fn dot_rows(
    level: Level,
    weights: Matrix<'_>,
    inputs: &[InputGroup],
    units: &mut Vec<UnpackedUnit>,
    store: Store,
    out: &mut ColumnsMut<'_>,
) {
    // Packed rows are unpacked once for all tokens.
    let turns = if weights.format().is_packed() {
        1
    } else {
        inputs.len().div_ceil(AT_ONCE)
    };
    if weights.rows() == 0 {
        return;
    }
    let rows = if turns == 1 {
        weights.rows()
    } else {
        let row_bytes = weights.bytes().len() / weights.rows();
        (KEPT / row_bytes).max(STREAMS)
    };
    for row in (0..weights.rows()).step_by(rows) {
        let weights = weights.narrow(row..weights.rows().min(row + rows));
        for turn in 0..turns {
            let token = turn * inputs.len() / turns;
            let inputs = &inputs[token..(turn + 1) * inputs.len() / turns];
            weights.format().visit(Rows {
                level,
                weights,
                inputs,
                units,
                store,
                out,
                token,
                row,
            });
        }
    }
}

struct Rows<'a, 'o> {
    level: Level,
    weights: Matrix<'a>,
    inputs: &'a [InputGroup],
    /// Where rows of packed formats are unpacked.
    units: &'a mut Vec<UnpackedUnit>,
    store: Store,
    out: &'a mut ColumnsMut<'o>,
    /// Row of `out` of the first input.
    token: usize,
    /// Column of `out` of the first row of weights.
    row: usize,
}

impl FormatVisitor for Rows<'_, '_> {
    type Output = ();
    fn quants<F: QuantFormat>(self) {
        match self.inputs.len() {
            1 => self.level.run(QuantRows::<F, 1>(self, PhantomData)),
            2 => self.level.run(QuantRows::<F, 2>(self, PhantomData)),
            3 => self.level.run(QuantRows::<F, 3>(self, PhantomData)),
            AT_ONCE => self.level.run(QuantRows::<F, AT_ONCE>(self, PhantomData)),
            tokens => unreachable!("{tokens} tokens at once"),
        }
    }
    fn packed<F: PackedFormat>(self) {
        let units = self.weights.cols().div_ceil(UNIT);
        let rows = (UNPACKED / units).next_multiple_of(STREAMS).max(STREAMS);
        for first in (0..self.weights.rows()).step_by(rows) {
            let last = self.weights.rows().min(first + rows);
            let packed = self.weights.narrow(first..last);
            unpack_rows::<F>(self.level, packed, self.units);
            // One by one: the rows come from the cache.
            for (token, inputs) in self.inputs.chunks(1).enumerate() {
                let rows = Rows {
                    weights: Matrix::of_units(packed, self.units),
                    inputs,
                    units: &mut Vec::new(),
                    out: &mut *self.out,
                    token: self.token + token,
                    row: self.row + first,
                    ..self
                };
                self.level
                    .run(QuantRows::<F::Unpacked, 1>(rows, PhantomData));
            }
        }
    }
    fn floats<F: FloatFormat>(self) {
        self.level.run(FloatRows::<F>(self, PhantomData));
    }
}

impl Rows<'_, '_> {
    /// Puts the product of row `row` and a token where it belongs.
    #[inline(always)]
    fn put(&mut self, token: usize, row: usize, value: f32) {
        let out = &mut self.out.row(self.token + token)[self.row + row];
        *out = match self.store {
            Store::Replace => value,
            Store::Add => *out + value,
        };
    }
}

/// Asks for the cache lines that lie [`PREFETCH`] behind `bytes`.
#[inline(always)]
pub(crate) fn prefetch<S: Simd>(simd: S, bytes: &[u8]) {
    simd.prefetch_lines(bytes.as_ptr().wrapping_add(PREFETCH), bytes.len());
}

struct QuantRows<'a, 'o, F, const TOKENS: usize>(Rows<'a, 'o>, PhantomData<F>);

/// Rows whose sums are taken across lanes together.
const STREAMS: usize = 4;

/// Rows of at most so many bytes come by turns from places far apart: memory delivers several streams
/// faster than one. Longer ones break off the stream too rarely to be prefetched together. Two threads
/// of a Zen 4 that read 41 GB/s, GB/s of neighbouring rows and of far ones: rows of 616 bytes (Q5_0) 26
/// and 31, of 952 (Q8_0) 24 and 34, of 1152 (Q4_K) 28 and 35, of 1680 (Q6_K) 27 and 26, of 2520 28 and
/// 21. Two rows at once, unit by unit, come from the caches a tenth faster, but from memory at half
/// the speed.
const FAR_ROW_BYTES: usize = 1536;

impl<F: QuantFormat, const TOKENS: usize> Kernel for QuantRows<'_, '_, F, TOKENS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let walk = RowWalk::<F, TOKENS>::new(self.0.weights, self.0.inputs);
        let count = self.0.weights.rows();
        let turns = count / STREAMS;
        let is_far = self.0.weights.row(0).len() <= FAR_ROW_BYTES;
        // The last turn takes what is left.
        for turn in 0..count.div_ceil(STREAMS) {
            let (first, stride) = if is_far && turn < turns {
                (turn, turns)
            } else {
                (turn * STREAMS, 1)
            };
            let together = STREAMS.min(count - turn * STREAMS);
            let mut sums = [[simd.splat(0.0); STREAMS]; TOKENS];
            for i in 0..together {
                let products = walk.products(simd, first + i * stride);
                for (sums, product) in sums.iter_mut().zip(products) {
                    sums[i] = product;
                }
            }
            for (token, sums) in sums.into_iter().enumerate() {
                for (i, sum) in simd.sums(sums)[..together].iter().enumerate() {
                    self.0.put(token, first + i * stride, *sum);
                }
            }
        }
    }
}

/// What stays the same from row to row.
struct RowWalk<'a, F: QuantFormat, const TOKENS: usize> {
    weights: Matrix<'a>,
    /// Whole units of a row, of each token.
    inputs: [&'a [UnitInput]; TOKENS],
    /// The last unit, if it is not a whole one, and how many columns it has.
    rest: Option<([&'a UnitInput; TOKENS], usize)>,
    format: PhantomData<F>,
}

impl<'a, F: QuantFormat, const TOKENS: usize> RowWalk<'a, F, TOKENS> {
    fn new(weights: Matrix<'a>, inputs: &'a [InputGroup]) -> Self {
        let (units, rest) = (weights.cols() / UNIT, weights.cols() % UNIT);
        Self {
            weights,
            inputs: std::array::from_fn(|token| &inputs[token].units()[..units]),
            rest: (rest > 0).then(|| {
                let last = std::array::from_fn(|token| &inputs[token].units()[units]);
                (last, rest)
            }),
            format: PhantomData,
        }
    }

    /// A vector for each token, whose lanes make the product of row `row` and its input.
    #[inline(always)]
    fn products<S: Simd>(&self, simd: S, row: usize) -> [S::Floats; TOKENS] {
        let count = self.inputs[0].len();
        let whole_bytes = count * size_of::<F::Unit>();
        let (units, rest) = self.weights.row(row).split_at(whole_bytes);
        let units: &[F::Unit] = bytemuck::cast_slice(units);
        let inputs: [&[UnitInput]; TOKENS] =
            std::array::from_fn(|token| &self.inputs[token][..units.len()]);
        let mut sums = UnitSums {
            sums: [simd.splat(0.0); TOKENS],
            second: [simd.splat(0.0); TOKENS],
            subtract: [simd.splat(0.0); TOKENS],
        };
        for (index, unit) in units.iter().enumerate() {
            prefetch(simd, bytemuck::bytes_of(unit));
            let inputs = std::array::from_fn(|token| &inputs[token][index]);
            sums = sums.add::<S, F>(simd, unit, inputs, UNIT);
        }
        if let Some((inputs, cols)) = self.rest {
            prefetch(simd, rest);
            // The blocks of the next row fill the unit; a copy is needed at the end of the matrix.
            let copy;
            let tail = &self.weights.rows_from(row)[whole_bytes..];
            let unit = match tail.get(..size_of::<F::Unit>()) {
                Some(unit) => bytemuck::from_bytes(unit),
                None => {
                    copy = filled_up(rest);
                    &copy
                }
            };
            sums = sums.add::<S, F>(simd, unit, inputs, cols);
        }
        sums.totals::<S, F>(simd)
    }
}

/// A unit that begins with `bytes`, and zeros behind them.
#[cold]
fn filled_up<U: Pod>(bytes: &[u8]) -> U {
    let mut unit = U::zeroed();
    bytemuck::bytes_of_mut(&mut unit)[..bytes.len()].copy_from_slice(bytes);
    unit
}

/// Which scale belongs to each quarter of a vector of quants.
const fn scale_lanes<F: QuantFormat>(half: usize, vector: usize) -> [usize; 4] {
    let mut lanes = F::ORDER.sixteens().as_chunks::<4>().0[vector];
    let mut i = 0;
    while i < 4 {
        lanes[i] = (HALF * half + 16 * lanes[i]) / F::SUB;
        i += 1;
    }
    lanes
}

#[derive(Clone, Copy)]
struct UnitSums<V, const TOKENS: usize> {
    sums: [V; TOKENS],
    /// Of one token an addition that waits for the last one takes longer than everything else, so each vector
    /// has its own, added up in the end. Several tokens would not wait for each other, but must sum alike:
    /// see [`most_alike`](crate::most_alike).
    second: [V; TOKENS],
    /// Where sub-blocks have 32 values, lanes 8..16 count.
    subtract: [V; TOKENS],
}

impl<V: Copy, const TOKENS: usize> UnitSums<V, TOKENS> {
    /// Adds the first `cols` products of `unit`.
    #[inline(always)]
    fn add<S: Simd<Floats = V>, F: QuantFormat>(
        mut self,
        simd: S,
        unit: &F::Unit,
        inputs: [&UnitInput; TOKENS],
        cols: usize,
    ) -> Self {
        // What is behind the row belongs to another one: an infinite scale there must not count.
        let kept = if F::SUB == 32 {
            0x0101 * ((1 << (cols / 32)) - 1)
        } else {
            (1 << (cols / 16)) - 1
        } as u16;
        let keep = |scales: V| {
            if cols < UNIT {
                simd.keep(scales, kept)
            } else {
                scales
            }
        };
        let scales = keep(F::scales(simd, unit));
        let mins = if F::MINS.exist() && F::SUB == 16 {
            keep(F::mins(simd, unit))
        } else {
            scales
        };
        let mut products = [scales; TOKENS];
        for token in 0..TOKENS {
            let input = inputs[token];
            let factors = if F::SUB == 32 {
                &input.factors32
            } else {
                &input.scales16
            };
            products[token] = simd.mul(scales, simd.load(factors.floats()));
            if F::MINS.exist() || offset::<S, F>() != 0 {
                let subtract = self.subtract[token];
                self.subtract[token] = if F::SUB == 32 {
                    simd.add(subtract, products[token])
                } else {
                    simd.mul_add(mins, simd.load(input.sums16.floats()), subtract)
                };
            }
        }
        self = self.add_half::<S, F, 0>(simd, unit, inputs, products);
        if cols > HALF {
            self = self.add_half::<S, F, 1>(simd, unit, inputs, products);
        }
        self
    }

    /// Adds the products of half a unit. `scales` are those of the whole unit.
    #[inline(always)]
    fn add_half<S: Simd<Floats = V>, F: QuantFormat, const HALF_INDEX: usize>(
        mut self,
        simd: S,
        unit: &F::Unit,
        inputs: [&UnitInput; TOKENS],
        scales: [V; TOKENS],
    ) -> Self {
        let quants = stored_quants::<S, F>(simd, unit, HALF_INDEX);
        for token in 0..TOKENS {
            let [first, second] = inputs[token].quants(F::ORDER, HALF_INDEX);
            let activations = [simd.load_bytes(&first.0), simd.load_bytes(&second.0)];
            let mut dots = [simd.splat_int(0); 2];
            if paired::<F>() {
                dots[0] = simd.dot_pair::<F::Quants>(quants, activations);
            } else {
                dots[0] = simd.dot::<F::Quants>(dots[0], quants[0], activations[0]);
                dots[1] = simd.dot::<F::Quants>(dots[1], quants[1], activations[1]);
            }
            for (vector, dot) in dots.into_iter().enumerate() {
                if vector == 1 && paired::<F>() {
                    break;
                }
                let scales = simd.spread(scales[token], scale_lanes::<F>(HALF_INDEX, vector));
                let dot = simd.to_floats(dot);
                if vector == 1 {
                    self.second[token] = simd.mul_add(dot, scales, self.second[token]);
                } else {
                    self.sums[token] = simd.mul_add(dot, scales, self.sums[token]);
                }
            }
        }
        self
    }

    #[inline(always)]
    fn totals<S: Simd<Floats = V>, F: QuantFormat>(self, simd: S) -> [V; TOKENS] {
        let factor = if F::MINS.exist() {
            F::MINS.sign()
        } else {
            -offset::<S, F>() as f32
        };
        let mut totals = self.sums;
        if !paired::<F>() {
            for (total, second) in totals.iter_mut().zip(self.second) {
                *total = simd.add(*total, second);
            }
        }
        for (total, subtract) in totals.iter_mut().zip(self.subtract) {
            let subtract = if F::SUB == 32 {
                simd.keep(subtract, 0xff00)
            } else {
                subtract
            };
            *total = simd.mul_add(subtract, simd.splat(factor), *total);
        }
        totals
    }
}

/// Whether the lanes of both vectors of half a unit have the same scales: then their products are
/// summed as integers, all in the first.
const fn paired<F: QuantFormat>() -> bool {
    let (first, second) = (scale_lanes::<F>(0, 0), scale_lanes::<F>(0, 1));
    first[0] == second[0] && first[1] == second[1] && first[2] == second[2] && first[3] == second[3]
}

struct FloatRows<'a, 'o, F>(Rows<'a, 'o>, PhantomData<F>);

impl<F: FloatFormat> Kernel for FloatRows<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let rows = &mut self.0;
        for row in 0..rows.weights.rows() {
            // After the first token the row comes from the cache.
            for (token, input) in rows.inputs.iter().enumerate() {
                let product = float_product::<S, F>(simd, rows.weights.row(row), input);
                rows.put(token, row, product);
            }
        }
    }
}

#[inline(always)]
fn float_product<S: Simd, F: FloatFormat>(simd: S, row: &[u8], input: &InputGroup) -> f32 {
    let inputs = input.values().as_chunks::<16>().0;
    let whole = input.cols() / 16;
    let (chunks, rest) = row.split_at(whole * size_of::<F::Chunk>());
    let chunks: &[F::Chunk] = bytemuck::cast_slice(chunks);
    // Four sums: one alone would wait for its own last addition.
    let mut sums = [simd.splat(0.0); 4];
    let (fours, singles) = chunks.as_chunks::<4>();
    let (input_fours, input_rest) = inputs.split_at(4 * fours.len());
    for (chunks, inputs) in fours.iter().zip(input_fours.as_chunks::<4>().0) {
        prefetch(simd, bytemuck::bytes_of(chunks));
        for i in 0..4 {
            let weights = F::floats(simd, &chunks[i]);
            sums[i] = simd.mul_add(weights, simd.load(&inputs[i]), sums[i]);
        }
    }
    for (chunk, input) in singles.iter().zip(input_rest) {
        sums[0] = simd.mul_add(F::floats(simd, chunk), simd.load(input), sums[0]);
    }
    if !rest.is_empty() {
        let mut tail = F::Chunk::zeroed();
        bytemuck::bytes_of_mut(&mut tail)[..rest.len()].copy_from_slice(rest);
        sums[1] = simd.mul_add(F::floats(simd, &tail), simd.load(&inputs[whole]), sums[1]);
    }
    simd.sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))
}
