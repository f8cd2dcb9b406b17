//! The gated delta rule (Yang et al., "Gated Delta Networks", 2024).

use crate::level::Level;
use crate::simd::{Kernel, Simd};

/// What one token does to the state of a head.
#[derive(Clone, Copy, Debug)]
pub struct DeltaStep<'a> {
    /// `[key_dim]`
    pub query: &'a [f32],
    /// `[key_dim]`
    pub key: &'a [f32],
    /// `[value_dim]`
    pub value: &'a [f32],
    /// What the state is multiplied by before.
    pub decay: f32,
    /// How much of the difference is learnt.
    pub rate: f32,
}

/// `state *= decay; state += rate * (value - state . key) key^T; out = state . query`, where `state` is
/// row-major `[value_dim, key_dim]` and `out` is `[value_dim]`.
///
/// # Panics
/// If the shapes do not agree.
pub fn delta_step(level: Level, step: DeltaStep<'_>, state: &mut [f32], out: &mut [f32]) {
    let (cols, rows) = (step.key.len(), step.value.len());
    assert_eq!(step.query.len(), cols, "query and key");
    assert_eq!(
        (state.len(), out.len()),
        (rows * cols, rows),
        "state and output"
    );
    level.run(Step { step, state, out });
}

struct Step<'a> {
    step: DeltaStep<'a>,
    state: &'a mut [f32],
    out: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { step, state, out } = self;
        let rows = state.chunks_exact_mut(step.key.len());
        for ((row, value), out) in rows.zip(step.value).zip(out) {
            let known = step.decay * dot(simd, row, step.key);
            *out = learn(simd, row, &step, step.rate * (value - known));
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = simd.splat(0.0);
    for (a, b) in a.iter().zip(b) {
        sums = simd.mul_add(simd.load(a), simd.load(b), sums);
    }
    let mut sum = simd.sum(sums);
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum += a * b;
    }
    sum
}

/// `row = decay * row + error * key`; gives `row . query`.
#[inline(always)]
fn learn<S: Simd>(simd: S, row: &mut [f32], step: &DeltaStep<'_>, error: f32) -> f32 {
    let (rows, row_rest) = row.as_chunks_mut::<16>();
    let (keys, key_rest) = step.key.as_chunks::<16>();
    let (queries, query_rest) = step.query.as_chunks::<16>();
    let (decays, errors) = (simd.splat(step.decay), simd.splat(error));
    let mut sums = simd.splat(0.0);
    for ((row, key), query) in rows.iter_mut().zip(keys).zip(queries) {
        let kept = simd.mul(decays, simd.load(row));
        let new = simd.mul_add(errors, simd.load(key), kept);
        simd.store(new, row);
        sums = simd.mul_add(new, simd.load(query), sums);
    }
    let mut sum = simd.sum(sums);
    for ((row, key), query) in row_rest.iter_mut().zip(key_rest).zip(query_rest) {
        *row = step.decay * *row + error * key;
        sum += *row * query;
    }
    sum
}
