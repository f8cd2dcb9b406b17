//! Norms.

use crate::level::Level;
use crate::simd::{Kernel, Simd};

/// Root-mean-square norm of each row: `out = x / sqrt(mean(x^2) + epsilon) * weight`.
///
/// `rows` and `out` are row-major `[rows, weight.len()]`. Source: Zhang and Sennrich, "Root Mean
/// Square Layer Normalization", 2019.
///
/// # Panics
/// If `rows` are not whole rows or `out` has another length.
pub fn rms_norm(level: Level, rows: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    check(rows, weight, out);
    level.run(Norm {
        subtract_mean: false,
        rows,
        weight,
        epsilon,
        out,
    });
}

/// What [`rms_norm`] multiplies a row by, besides the weight: `1 / sqrt(mean(x^2) + epsilon)`.
#[must_use]
pub fn rms_scale(level: Level, row: &[f32], epsilon: f32) -> f32 {
    level.run(RmsScale { row, epsilon })
}

struct RmsScale<'a> {
    row: &'a [f32],
    epsilon: f32,
}

impl Kernel for RmsScale<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mean = sum_of_squares(simd, self.row, 0.0) / self.row.len() as f32;
        1.0 / (mean + self.epsilon).sqrt()
    }
}

/// Layer norm of each row: `out = (x - mean(x)) / sqrt(var(x) + epsilon) * weight`.
///
/// `rows` and `out` are row-major `[rows, weight.len()]`. Source: Ba et al., "Layer Normalization",
/// 2016.
///
/// # Panics
/// As [`rms_norm`].
pub fn layer_norm(level: Level, rows: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    check(rows, weight, out);
    level.run(Norm {
        subtract_mean: true,
        rows,
        weight,
        epsilon,
        out,
    });
}

fn check(rows: &[f32], weight: &[f32], out: &[f32]) {
    assert_eq!(rows.len(), out.len(), "rows in and out");
    assert!(
        !weight.is_empty() && rows.len().is_multiple_of(weight.len()),
        "whole rows"
    );
}

struct Norm<'a> {
    subtract_mean: bool,
    rows: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Kernel for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let cols = self.weight.len();
        for (row, out) in self
            .rows
            .chunks_exact(cols)
            .zip(self.out.chunks_exact_mut(cols))
        {
            let mean = if self.subtract_mean {
                sum(simd, row) / cols as f32
            } else {
                0.0
            };
            let squares = sum_of_squares(simd, row, mean);
            let scale = 1.0 / (squares / cols as f32 + self.epsilon).sqrt();
            for ((out, value), weight) in out.iter_mut().zip(row).zip(self.weight) {
                *out = (value - mean) * scale * weight;
            }
        }
    }
}

#[inline(always)]
fn sum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (vectors, rest) = values.as_chunks::<16>();
    let mut sums = simd.splat(0.0);
    for vector in vectors {
        sums = simd.add(sums, simd.load(vector));
    }
    simd.sum(sums) + rest.iter().sum::<f32>()
}

/// The sum of the squares of what is left of each value without `mean`.
#[inline(always)]
fn sum_of_squares<S: Simd>(simd: S, values: &[f32], mean: f32) -> f32 {
    let (vectors, rest) = values.as_chunks::<16>();
    let mut sums = simd.splat(0.0);
    for vector in vectors {
        let vector = simd.sub(simd.load(vector), simd.splat(mean));
        sums = simd.mul_add(vector, vector, sums);
    }
    let square = |value: &f32| (value - mean) * (value - mean);
    simd.sum(sums) + rest.iter().map(square).sum::<f32>()
}
