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
use crate::format::{FloatFormat, FormatVisitor, QuantFormat, UNIT};
use crate::inputs::InputGroup;
use crate::level::Level;
use crate::matrix::Matrix;
use crate::simd::{Kernel, Quants, Simd};

/// Bytes that the prefetch is ahead. Measured on Sapphire Rapids: 2 to 4 KiB reach the bandwidth of
/// the memory, 1 KiB and 6 KiB are slower.
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
        self.level
            .run(QuantRows::<F>(self, std::marker::PhantomData));
    }
    fn floats<F: FloatFormat>(self) {
        self.level
            .run(FloatRows::<F>(self, std::marker::PhantomData));
    }
}

impl Rows<'_> {
    /// Puts `dot` of each row where it belongs.
    #[inline(always)]
    fn each(self, dot: impl Fn(&[u8]) -> f32) {
        let rows = self.weights.bytes().chunks_exact(self.weights.row_bytes());
        for (row, out) in rows.zip(self.out) {
            let value = dot(row);
            *out = if self.store == Store::Add {
                *out + value
            } else {
                value
            };
        }
    }
}

/// Asks for the cache lines that lie [`PREFETCH`] behind `block`.
#[inline(always)]
fn prefetch<S: Simd, T>(simd: S, block: &T) {
    let ahead = std::ptr::from_ref(block)
        .cast::<u8>()
        .wrapping_add(PREFETCH);
    for line in 0..size_of::<T>().div_ceil(64) {
        simd.prefetch(ahead.wrapping_add(64 * line));
    }
}

struct QuantRows<'a, F>(Rows<'a>, std::marker::PhantomData<F>);

/// The activations of a unit.
struct UnitInput<'a> {
    quants: &'a [[u8; 64]; 4],
    scales: &'a [f32],
    scaled_sums: &'a [f32],
}

impl<F: QuantFormat> Kernel for QuantRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let input = self.0.input;
        let quants: &[[u8; 64]] = bytemuck::cast_slice(input.quants());
        let quants = quants.as_chunks::<4>().0;
        let scales = input.scales_of(F::SUB).chunks_exact(UNIT / F::SUB);
        let scaled_sums = input.scaled_sums_of(F::SUB).chunks_exact(UNIT / F::SUB);
        let inputs = quants.iter().zip(scales).zip(scaled_sums);
        let whole = input.cols() / UNIT;
        let tail_chunks = (input.cols() % UNIT).div_ceil(64);
        self.0.each(|row| {
            let (units, rest) = row.split_at(whole * size_of::<F::Unit>());
            let units: &[F::Unit] = bytemuck::cast_slice(units);
            let mut inputs = inputs
                .clone()
                .map(|((quants, scales), scaled_sums)| UnitInput {
                    quants,
                    scales,
                    scaled_sums,
                });
            let mut sums = UnitSums {
                sum: simd.splat(0.0),
                subtract: simd.splat(0.0),
            };
            for (unit, input) in units.iter().zip(&mut inputs) {
                prefetch(simd, unit);
                sums = sums.add::<S, F>(simd, unit, &input, 4);
            }
            if let (1.., Some(input)) = (rest.len(), inputs.next()) {
                let mut unit = F::Unit::zeroed();
                bytemuck::bytes_of_mut(&mut unit)[..rest.len()].copy_from_slice(rest);
                sums = sums.add::<S, F>(simd, &unit, &input, tail_chunks);
            }
            let subtract = if F::HAS_MINS {
                1.0
            } else {
                offset::<S, F>() as f32
            };
            simd.sum(simd.neg_mul_add(sums.subtract, simd.splat(subtract), sums.sum))
        });
    }
}

/// What has to be subtracted from each quant as [`Simd::dot`] sees it.
pub(crate) const fn offset<S: Simd, F: QuantFormat>() -> i32 {
    F::OFFSET + if F::Quants::SIGNED { S::SIGNED_BIAS } else { 0 }
}

/// The quants of a chunk as [`Simd::dot`] takes them.
#[inline(always)]
pub(crate) fn stored_quants<S: Simd, F: QuantFormat>(
    simd: S,
    unit: &F::Unit,
    chunk: usize,
) -> S::Bytes {
    let quants = F::quants(simd, unit, chunk);
    if F::Quants::SIGNED {
        simd.bias_signed(quants)
    } else {
        quants
    }
}

struct UnitSums<V> {
    sum: V,
    subtract: V,
}

impl<V: Copy> UnitSums<V> {
    #[inline(always)]
    fn add<S: Simd<Floats = V>, F: QuantFormat>(
        self,
        simd: S,
        unit: &F::Unit,
        input: &UnitInput<'_>,
        chunks: usize,
    ) -> Self {
        let load = |values: &[f32]| match values.first_chunk::<16>() {
            Some(values) => simd.load(values),
            None => simd.load_half(values.first_chunk().expect("8 or 16 sub-blocks")),
        };
        let Self {
            mut sum,
            mut subtract,
        } = self;
        let scales = F::scales(simd, unit);
        if F::HAS_MINS || offset::<S, F>() != 0 {
            let mins = if F::HAS_MINS {
                F::mins(simd, unit)
            } else {
                scales
            };
            subtract = simd.mul_add(mins, load(input.scaled_sums), subtract);
        }
        let scales = simd.mul(scales, load(input.scales));
        for chunk in 0..chunks {
            let quants = stored_quants::<S, F>(simd, unit, chunk);
            let activations = simd.load_bytes(&input.quants[chunk]);
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
}

struct FloatRows<'a, F>(Rows<'a>, std::marker::PhantomData<F>);

impl<F: FloatFormat> Kernel for FloatRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let inputs = self.0.input.values().as_chunks::<16>().0;
        let whole = self.0.input.cols() / 16;
        self.0.each(|row| {
            let (chunks, rest) = row.split_at(whole * size_of::<F::Chunk>());
            let chunks: &[F::Chunk] = bytemuck::cast_slice(chunks);
            // Four sums: one alone would wait for its own last addition.
            let mut sums = [simd.splat(0.0); 4];
            let (fours, singles) = chunks.as_chunks::<4>();
            let (input_fours, input_rest) = inputs.split_at(4 * fours.len());
            for (chunks, inputs) in fours.iter().zip(input_fours.as_chunks::<4>().0) {
                prefetch(simd, chunks);
                for i in 0..4 {
                    sums[i] =
                        simd.mul_add(F::floats(simd, &chunks[i]), simd.load(&inputs[i]), sums[i]);
                }
            }
            let mut tail = F::Chunk::zeroed();
            bytemuck::bytes_of_mut(&mut tail)[..rest.len()].copy_from_slice(rest);
            for (chunk, input) in singles.iter().chain([&tail]).zip(input_rest) {
                sums[0] = simd.mul_add(F::floats(simd, chunk), simd.load(input), sums[0]);
            }
            simd.sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))
        });
    }
}
