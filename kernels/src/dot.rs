//! One token: a dot product per row, read once, straight from the file's layout.
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

use bytemuck::Zeroable;

use crate::columns::Store;
use crate::format::{FloatFormat, FormatVisitor, HALF, QuantFormat, UNIT, offset, stored_quants};
use crate::inputs::{InputGroup, UnitInput};
use crate::level::Level;
use crate::matrix::Matrix;
use crate::simd::{Kernel, Line, Simd};

/// Bytes that the prefetch is ahead. Mapped files of hundreds of MB, AVX-512: on Sapphire Rapids Q4_0
/// reads 16.1 GB/s and Q8_0 17.3 with 2 KiB, 15.1 and 15.8 with 3 KiB; on Zen 4 4 KiB are up to 16 %
/// better than 2, and 3 nearly as good as 4.
const PREFETCH: usize = 3072;

/// `out[r] = weights[r] . input`, or added to it.
pub(crate) fn dot_rows(
    level: Level,
    weights: Matrix<'_>,
    input: &InputGroup,
    store: Store,
    out: &mut [f32],
) {
    weights.format().visit(Rows {
        level,
        weights,
        input,
        store,
        out,
    });
}

struct Rows<'a> {
    level: Level,
    weights: Matrix<'a>,
    input: &'a InputGroup,
    store: Store,
    out: &'a mut [f32],
}

impl FormatVisitor for Rows<'_> {
    type Output = ();
    fn quants<F: QuantFormat>(self) {
        self.level.run(QuantRows::<F>(self, PhantomData));
    }
    fn floats<F: FloatFormat>(self) {
        self.level.run(FloatRows::<F>(self, PhantomData));
    }
}

impl Rows<'_> {
    /// Puts the product of row `row` where it belongs.
    #[inline(always)]
    fn put(&mut self, row: usize, value: f32) {
        let out = &mut self.out[row];
        *out = match self.store {
            Store::Replace => value,
            Store::Add => *out + value,
        };
    }
}

/// Asks for the cache lines that lie [`PREFETCH`] behind `bytes`.
#[inline(always)]
fn prefetch<S: Simd>(simd: S, bytes: &[u8]) {
    let ahead = bytes.as_ptr().wrapping_add(PREFETCH);
    for line in 0..bytes.len().div_ceil(64) {
        simd.prefetch(ahead.wrapping_add(64 * line));
    }
}

struct QuantRows<'a, F>(Rows<'a>, PhantomData<F>);

impl<F: QuantFormat> Kernel for QuantRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let rows = &mut self.0;
        let walk = RowWalk::<F>::new(rows.weights, rows.input);
        let count = rows.weights.rows();
        // One row at a time: with two side by side everything comes from the caches a tenth faster, but
        // from memory at half the speed (Zen 4: 10 GB/s instead of 21).
        let mut row = 0;
        while row + 4 <= count {
            let mut sums = [simd.splat(0.0); 4];
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = walk.products(simd, row + i);
            }
            for (i, sum) in simd.sums(sums).into_iter().enumerate() {
                rows.put(row + i, sum);
            }
            row += 4;
        }
        for row in row..count {
            let [sum, ..] = simd.sums([walk.products(simd, row); 4]);
            rows.put(row, sum);
        }
    }
}

/// What stays the same from row to row.
struct RowWalk<'a, F: QuantFormat> {
    weights: Matrix<'a>,
    /// Whole units of a row.
    inputs: &'a [UnitInput],
    /// The last unit, if it is not a whole one, and how many columns it has.
    rest: Option<(&'a UnitInput, usize)>,
    format: PhantomData<F>,
}

impl<'a, F: QuantFormat> RowWalk<'a, F> {
    fn new(weights: Matrix<'a>, input: &'a InputGroup) -> Self {
        let (inputs, rest) = input.units().split_at(input.cols() / UNIT);
        Self {
            weights,
            inputs,
            rest: rest.first().map(|unit| (unit, input.cols() % UNIT)),
            format: PhantomData,
        }
    }

    /// A vector whose lanes make the product of row `row` and the input.
    #[inline(always)]
    fn products<S: Simd>(&self, simd: S, row: usize) -> S::Floats {
        let whole_bytes = self.inputs.len() * size_of::<F::Unit>();
        let (units, rest) = self.weights.row(row).split_at(whole_bytes);
        let units: &[F::Unit] = bytemuck::cast_slice(units);
        let mut sums = UnitSums {
            sum: simd.splat(0.0),
            subtract: simd.splat(0.0),
        };
        for (unit, input) in units.iter().zip(self.inputs) {
            prefetch(simd, bytemuck::bytes_of(unit));
            sums = sums.add::<S, F>(simd, unit, input, UNIT);
        }
        if let Some((input, cols)) = self.rest {
            prefetch(simd, rest);
            // The blocks of the next row fill the unit; a copy is needed at the end of the matrix.
            let mut copy = F::Unit::zeroed();
            let tail = &self.weights.rows_from(row)[whole_bytes..];
            let unit = match tail.get(..size_of::<F::Unit>()) {
                Some(unit) => bytemuck::from_bytes(unit),
                None => {
                    bytemuck::bytes_of_mut(&mut copy)[..rest.len()].copy_from_slice(rest);
                    &copy
                }
            };
            sums = sums.add::<S, F>(simd, unit, input, cols);
        }
        sums.total::<S, F>(simd)
    }
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
struct UnitSums<V> {
    sum: V,
    /// Where sub-blocks have 32 values, lanes 8..16 count.
    subtract: V,
}

impl<V: Copy> UnitSums<V> {
    /// Adds the first `cols` products of `unit`.
    #[inline(always)]
    fn add<S: Simd<Floats = V>, F: QuantFormat>(
        self,
        simd: S,
        unit: &F::Unit,
        input: &UnitInput,
        cols: usize,
    ) -> Self {
        let Self {
            mut sum,
            mut subtract,
        } = self;
        let [a, b, c, d] = input.quants(F::ORDER);
        let first = half_dots::<S, F, 0>(simd, unit, [a, b]);
        let second = if cols > HALF {
            half_dots::<S, F, 1>(simd, unit, [c, d])
        } else {
            first
        };
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
        let factors = if F::SUB == 32 {
            &input.factors32
        } else {
            &input.scales16
        };
        let products = simd.mul(scales, simd.load(factors.floats()));
        if F::MINS.exist() || offset::<S, F>() != 0 {
            subtract = if F::SUB == 32 {
                simd.add(subtract, products)
            } else {
                let mins = if F::MINS.exist() {
                    keep(F::mins(simd, unit))
                } else {
                    scales
                };
                simd.mul_add(mins, simd.load(input.sums16.floats()), subtract)
            };
        }
        sum = add_scaled::<S, F, 0>(simd, first, products, sum);
        if cols > HALF {
            sum = add_scaled::<S, F, 1>(simd, second, products, sum);
        }
        Self { sum, subtract }
    }

    #[inline(always)]
    fn total<S: Simd<Floats = V>, F: QuantFormat>(self, simd: S) -> V {
        let factor = if F::MINS.exist() {
            F::MINS.sign()
        } else {
            -offset::<S, F>() as f32
        };
        let subtract = if F::SUB == 32 {
            simd.keep(self.subtract, 0xff00)
        } else {
            self.subtract
        };
        simd.mul_add(subtract, simd.splat(factor), self.sum)
    }
}

/// Whether the lanes of both vectors of half a unit have the same scales: then their products are
/// summed as integers.
const fn paired<F: QuantFormat>() -> bool {
    let (first, second) = (scale_lanes::<F>(0, 0), scale_lanes::<F>(0, 1));
    first[0] == second[0] && first[1] == second[1] && first[2] == second[2] && first[3] == second[3]
}

/// The products of half a unit with `activations`, of both vectors or in the first alone.
#[inline(always)]
fn half_dots<S: Simd, F: QuantFormat, const HALF_INDEX: usize>(
    simd: S,
    unit: &F::Unit,
    activations: [&Line; 2],
) -> [S::Ints; 2] {
    let quants = stored_quants::<S, F>(simd, unit, HALF_INDEX);
    let activations = [
        simd.load_bytes(&activations[0].0),
        simd.load_bytes(&activations[1].0),
    ];
    let zero = simd.splat_int(0);
    if paired::<F>() {
        [simd.dot_pair::<F::Quants>(quants, activations), zero]
    } else {
        [
            simd.dot::<F::Quants>(zero, quants[0], activations[0]),
            simd.dot::<F::Quants>(zero, quants[1], activations[1]),
        ]
    }
}

/// Adds the products of half a unit times their scales, which are those of the whole unit.
#[inline(always)]
fn add_scaled<S: Simd, F: QuantFormat, const HALF_INDEX: usize>(
    simd: S,
    dots: [S::Ints; 2],
    scales: S::Floats,
    sum: S::Floats,
) -> S::Floats {
    let [first, second] = dots;
    let first_scales = simd.spread(scales, scale_lanes::<F>(HALF_INDEX, 0));
    let sum = simd.mul_add(simd.to_floats(first), first_scales, sum);
    if paired::<F>() {
        return sum;
    }
    let second_scales = simd.spread(scales, scale_lanes::<F>(HALF_INDEX, 1));
    simd.mul_add(simd.to_floats(second), second_scales, sum)
}

struct FloatRows<'a, F>(Rows<'a>, PhantomData<F>);

impl<F: FloatFormat> Kernel for FloatRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let rows = &mut self.0;
        let inputs = rows.input.values().as_chunks::<16>().0;
        let whole = rows.input.cols() / 16;
        for row in 0..rows.weights.rows() {
            let bytes = rows.weights.row(row);
            let (chunks, rest) = bytes.split_at(whole * size_of::<F::Chunk>());
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
            let sum = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
            rows.put(row, simd.sum(sum));
        }
    }
}
