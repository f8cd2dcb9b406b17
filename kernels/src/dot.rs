//! One token: a dot product per row, read once, straight from the file's layout.
//!
//! For each unit of 256 values, with the scales of the row's sub-blocks multiplied by those of the
//! activations,
//!
//! ```text
//! sum      += scale * activation_scale * (quants . activations)      integers, 64 values at a time
//! subtract += min * activation_scale * (sum of activations)
//! ```
//!
//! where a format without mins has `OFFSET * scale` for its min. What counts is that the row streams
//! from memory at full speed: the software prefetch runs a few KiB ahead, over the end of the row.

use bytemuck::Zeroable;

use crate::columns::Store;
use crate::format::{FloatFormat, FormatVisitor, QuantFormat, UNIT, offset, stored_quants};
use crate::inputs::InputGroup;
use crate::level::Level;
use crate::matrix::Matrix;
use crate::simd::{Kernel, Simd};

/// Bytes that the prefetch is ahead. Sapphire Rapids, a mapped file of 384 MB, AVX-512: with 2 KiB Q4_0
/// reads 16.1 GB/s, Q8_0 17.3, Q6_K 16.0; with 3 KiB 15.1, 15.8, 14.7. At 64 MB 3 KiB is up to 13 %
/// faster, but models are larger.
const PREFETCH: usize = 2048;

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
        self.level
            .run(QuantRows::<F>(self, std::marker::PhantomData));
    }
    fn floats<F: FloatFormat>(self) {
        self.level
            .run(FloatRows::<F>(self, std::marker::PhantomData));
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

struct QuantRows<'a, F>(Rows<'a>, std::marker::PhantomData<F>);

impl<F: QuantFormat> Kernel for QuantRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let rows = &mut self.0;
        let cols = rows.input.cols();
        let input = UnitInputs::new::<F>(rows.input);
        let whole_bytes = cols / UNIT * size_of::<F::Unit>();
        for row in 0..rows.weights.rows() {
            let bytes = rows.weights.row(row);
            let (units, rest) = bytes.split_at(whole_bytes);
            let units: &[F::Unit] = bytemuck::cast_slice(units);
            let mut sums = UnitSums {
                sum: simd.splat(0.0),
                subtract: simd.splat(0.0),
            };
            for (index, unit) in units.iter().enumerate() {
                prefetch(simd, bytemuck::bytes_of(unit));
                sums = sums.add::<S, F>(simd, unit, &input, index, UNIT);
            }
            if !rest.is_empty() {
                prefetch(simd, rest);
                // The blocks of the next row fill the unit; a copy is needed at the end of the matrix.
                let mut copy = F::Unit::zeroed();
                let tail = &rows.weights.rows_from(row)[whole_bytes..];
                let unit = match tail.get(..size_of::<F::Unit>()) {
                    Some(unit) => bytemuck::from_bytes(unit),
                    None => {
                        bytemuck::bytes_of_mut(&mut copy)[..rest.len()].copy_from_slice(rest);
                        &copy
                    }
                };
                sums = sums.add::<S, F>(simd, unit, &input, units.len(), cols % UNIT);
            }
            rows.put(row, sums.total::<S, F>(simd));
        }
    }
}

/// The activations of a token, unit by unit.
struct UnitInputs<'a> {
    quants: &'a [[[u8; 64]; 4]],
    /// Of each sub-block.
    scales: &'a [f32],
    scaled_sums: &'a [f32],
}

impl<'a> UnitInputs<'a> {
    fn new<F: QuantFormat>(input: &'a InputGroup) -> Self {
        Self {
            quants: bytemuck::cast_slice(input.quants()),
            scales: input.scales_of(F::SUB),
            scaled_sums: input.scaled_sums_of(F::SUB),
        }
    }
}

/// The values of `unit`'s 8 or 16 sub-blocks of `sub` columns.
#[inline(always)]
fn load_sub_blocks<S: Simd>(simd: S, values: &[f32], unit: usize, sub: usize) -> S::Floats {
    if sub == 32 {
        simd.load_half(&values.as_chunks().0[unit])
    } else {
        simd.load(&values.as_chunks().0[unit])
    }
}

struct UnitSums<V> {
    sum: V,
    subtract: V,
}

impl<V: Copy> UnitSums<V> {
    /// Adds the first `cols` products of `unit`, which is number `index` of its row.
    #[inline(always)]
    fn add<S: Simd<Floats = V>, F: QuantFormat>(
        self,
        simd: S,
        unit: &F::Unit,
        input: &UnitInputs<'_>,
        index: usize,
        cols: usize,
    ) -> Self {
        let Self {
            mut sum,
            mut subtract,
        } = self;
        // What is behind the row belongs to another one: an infinite scale there must not count.
        let mut scales = F::scales(simd, unit);
        if cols < UNIT {
            scales = simd.keep(scales, cols / F::SUB);
        }
        if F::HAS_MINS || offset::<S, F>() != 0 {
            let mut mins = if F::HAS_MINS {
                F::mins(simd, unit)
            } else {
                scales
            };
            if cols < UNIT {
                mins = simd.keep(mins, cols / F::SUB);
            }
            let scaled_sums = load_sub_blocks(simd, input.scaled_sums, index, F::SUB);
            subtract = simd.mul_add(mins, scaled_sums, subtract);
        }
        let input_scales = load_sub_blocks(simd, input.scales, index, F::SUB);
        let scales = simd.mul(scales, input_scales);
        let input_quants = &input.quants[index][..cols.div_ceil(64)];
        for (chunk, activations) in input_quants.iter().enumerate() {
            let quants = stored_quants::<S, F>(simd, unit, chunk);
            let activations = simd.load_bytes(activations);
            let dot = simd.to_floats(simd.dot::<F::Quants>(simd.splat_int(0), quants, activations));
            let scales = if F::SUB == 32 {
                simd.spread32(scales, chunk)
            } else {
                simd.spread16(scales, chunk)
            };
            sum = simd.mul_add(dot, scales, sum);
        }
        Self { sum, subtract }
    }

    #[inline(always)]
    fn total<S: Simd<Floats = V>, F: QuantFormat>(self, simd: S) -> f32 {
        let subtract = if F::HAS_MINS {
            1.0
        } else {
            offset::<S, F>() as f32
        };
        simd.sum(simd.neg_mul_add(self.subtract, simd.splat(subtract), self.sum))
    }
}

struct FloatRows<'a, F>(Rows<'a>, std::marker::PhantomData<F>);

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
