//! Quantisers: values to blocks.
//!
//! They are ggml's reference quantisers (`quantize_row_*_ref` in `ggml-quants.c`), with the same order
//! of f32 operations, so that a block has the same bits. They choose scales by the values alone: no
//! importance matrix.

use half::{bf16, f16};

use super::{BlockFormat, Format, Half};
use super::{float, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};
use crate::Level;
use crate::simd::{Kernel, Simd};

mod blocks_of_32;
mod k_quants;
mod scale_search;

/// A format whose blocks can be made from values.
trait Quantize: BlockFormat {
    /// `values` has [`BlockFormat::ELEMENTS`] elements for each of the blocks. The blocks are the same
    /// at every level. Implementations are `#[inline(always)]`.
    fn quantize<S: Simd>(simd: S, values: &[f32], blocks: &mut [Self::Block]);
}

/// Quantises block by block.
#[inline(always)]
fn each<F: BlockFormat>(
    values: &[f32],
    blocks: &mut [F::Block],
    quantize: impl Fn(&[f32]) -> F::Block,
) {
    for (block, values) in blocks.iter_mut().zip(values.chunks_exact(F::ELEMENTS)) {
        *block = quantize(values);
    }
}

/// [`Quantize`] as a kernel.
struct Run<'a, F: Quantize> {
    values: &'a [f32],
    blocks: &'a mut [F::Block],
}

impl<F: Quantize> Kernel for Run<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        F::quantize(simd, self.values, self.blocks);
    }
}

/// Makes the blocks of a format: [`Format::quantizer`].
#[derive(Clone, Copy, Debug)]
pub struct Quantizer {
    format: Format,
    run: fn(Level, &[f32], &mut [u8]),
}

const QUANTIZERS: &[Quantizer] = &[
    Quantizer::of::<float::F32>(Format::F32),
    Quantizer::of::<float::F16>(Format::F16),
    Quantizer::of::<float::BF16>(Format::BF16),
    Quantizer::of::<q4_0::Q4_0>(Format::Q4_0),
    Quantizer::of::<q4_1::Q4_1>(Format::Q4_1),
    Quantizer::of::<q5_0::Q5_0>(Format::Q5_0),
    Quantizer::of::<q5_1::Q5_1>(Format::Q5_1),
    Quantizer::of::<q8_0::Q8_0>(Format::Q8_0),
    Quantizer::of::<q2_k::Q2_K>(Format::Q2_K),
    Quantizer::of::<q3_k::Q3_K>(Format::Q3_K),
    Quantizer::of::<q4_k::Q4_K>(Format::Q4_K),
    Quantizer::of::<q5_k::Q5_K>(Format::Q5_K),
    Quantizer::of::<q6_k::Q6_K>(Format::Q6_K),
];

impl Format {
    /// What makes blocks of this format from values, if there is such code.
    #[must_use]
    pub fn quantizer(self) -> Option<Quantizer> {
        QUANTIZERS
            .iter()
            .copied()
            .find(|quantizer| quantizer.format == self)
    }
}

impl Quantizer {
    const fn of<F: Quantize>(format: Format) -> Self {
        let run = |level: Level, values: &[f32], bytes: &mut [u8]| {
            // Blocks are bytes: they lie at any address.
            let blocks = bytemuck::cast_slice_mut(bytes);
            level.run(Run::<F> { values, blocks });
        };
        Self { format, run }
    }

    /// The format of the blocks.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes the blocks of `values`, which should be finite; others give blocks without meaning. The
    /// level makes a difference in time only.
    ///
    /// # Panics
    /// If `bytes` has not the size of the blocks of `values.len()` values.
    pub fn quantize(&self, level: Level, values: &[f32], bytes: &mut [u8]) {
        assert_eq!(
            self.format.row_bytes(values.len()),
            Some(bytes.len()),
            "{} blocks",
            self.format.name()
        );
        (self.run)(level, values, bytes);
    }
}

impl Half {
    fn from_f32(value: f32) -> Self {
        Self(f16::from_f32(value).to_le_bytes())
    }
}

impl Quantize for float::F32 {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [[u8; 4]]) {
        each::<Self>(values, blocks, |values| values[0].to_le_bytes());
    }
}

impl Quantize for float::F16 {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [[u8; 2]]) {
        each::<Self>(values, blocks, |values| {
            f16::from_f32(values[0]).to_le_bytes()
        });
    }
}

impl Quantize for float::BF16 {
    #[inline(always)]
    fn quantize<S: Simd>(_: S, values: &[f32], blocks: &mut [[u8; 2]]) {
        each::<Self>(values, blocks, |values| {
            bf16::from_f32(values[0]).to_le_bytes()
        });
    }
}

/// The value of the largest magnitude, with its sign; the first of several. 0 for none.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0_f32, |largest, &value| {
        if value.abs() > largest.abs() {
            value
        } else {
            largest
        }
    })
}

/// The least and the largest value.
fn bounds(values: &[f32]) -> (f32, f32) {
    values
        .iter()
        .fold((f32::MAX, -f32::MAX), |(low, high), &value| {
            (
                if value < low { value } else { low },
                if value > high { value } else { high },
            )
        })
}

/// The nearest integer, ties to even, for magnitudes below 2^22.
///
/// Adding 1.5 * 2^23 leaves the integer in the mantissa; without SSE4.1 it is several times as fast
/// as [`f32::round_ties_even`].
fn nearest(value: f32) -> i32 {
    let bits = (value + 12_582_912.0).to_bits();
    (bits & 0x007f_ffff) as i32 - 0x0040_0000
}

#[cfg(test)]
mod tests;
