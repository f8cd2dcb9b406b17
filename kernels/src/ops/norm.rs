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
    assert_eq!(rows.len(), out.len(), "rows in and out");
    assert!(
        !weight.is_empty() && rows.len().is_multiple_of(weight.len()),
        "whole rows"
    );
    level.run(RmsNorm {
        rows,
        weight,
        epsilon,
        out,
    });
}

struct RmsNorm<'a> {
    rows: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let cols = self.weight.len();
        for (row, out) in self
            .rows
            .chunks_exact(cols)
            .zip(self.out.chunks_exact_mut(cols))
        {
            let (vectors, rest) = row.as_chunks::<16>();
            let mut sums = simd.splat(0.0);
            for vector in vectors {
                let vector = simd.load(vector);
                sums = simd.mul_add(vector, vector, sums);
            }
            let squares = simd.sum(sums) + rest.iter().map(|value| value * value).sum::<f32>();
            let scale = 1.0 / (squares / cols as f32 + self.epsilon).sqrt();
            for ((out, value), weight) in out.iter_mut().zip(row).zip(self.weight) {
                *out = value * scale * weight;
            }
        }
    }
}
