//! Value by value.

use crate::level::Level;
use crate::simd::{Kernel, Simd};

/// `gate = silu(gate) * up`, where `silu(x) = x / (1 + e^-x)`.
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul(level: Level, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up");
    level.run(SiluMul { gate, up });
}

struct SiluMul<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (gates, gate_rest) = self.gate.as_chunks_mut::<16>();
        let (ups, up_rest) = self.up.as_chunks::<16>();
        for (gate, up) in gates.iter_mut().zip(ups) {
            silu_mul_16(simd, gate, up);
        }
        let (mut gate, mut up) = ([0.0; 16], [0.0; 16]);
        gate[..gate_rest.len()].copy_from_slice(gate_rest);
        up[..up_rest.len()].copy_from_slice(up_rest);
        silu_mul_16(simd, &mut gate, &up);
        gate_rest.copy_from_slice(&gate[..gate_rest.len()]);
    }
}

#[inline(always)]
fn silu_mul_16<S: Simd>(simd: S, gate: &mut [f32; 16], up: &[f32; 16]) {
    let value = simd.load(gate);
    let negated = simd.sub(simd.splat(0.0), value);
    let silu = simd.div(value, simd.add(simd.splat(1.0), simd.exp(negated)));
    simd.store(simd.mul(silu, simd.load(up)), gate);
}

/// `e^x / sum of e^x`, in place. Nothing happens to an empty slice.
pub fn softmax(level: Level, values: &mut [f32]) {
    if values.is_empty() {
        return;
    }
    let sum = level.run(Exponentials(values));
    for value in values {
        *value /= sum;
    }
}

struct Exponentials<'a>(&'a mut [f32]);

impl Kernel for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let largest = largest(simd, self.0, f32::NEG_INFINITY);
        exp_sum(simd, self.0, largest)
    }
}

/// The largest of `values` and `least`.
#[inline(always)]
pub(super) fn largest<S: Simd>(simd: S, values: &[f32], least: f32) -> f32 {
    let (vectors, rest) = values.as_chunks::<16>();
    let mut largest = simd.splat(least);
    for vector in vectors {
        largest = simd.max(simd.load(vector), largest);
    }
    let mut tail = [least; 16];
    tail[..rest.len()].copy_from_slice(rest);
    simd.maximum(simd.max(simd.load(&tail), largest))
}

/// `values = e^(values - subtract)`; returns their sum.
#[inline(always)]
pub(super) fn exp_sum<S: Simd>(simd: S, values: &mut [f32], subtract: f32) -> f32 {
    let (vectors, rest) = values.as_chunks_mut::<16>();
    let mut sums = simd.splat(0.0);
    for vector in vectors {
        let exp = simd.exp(simd.sub(simd.load(vector), simd.splat(subtract)));
        simd.store(exp, vector);
        sums = simd.add(sums, exp);
    }
    let mut tail = [f32::NEG_INFINITY; 16];
    tail[..rest.len()].copy_from_slice(rest);
    let exp = simd.exp(simd.sub(simd.load(&tail), simd.splat(subtract)));
    simd.store(exp, &mut tail);
    rest.copy_from_slice(&tail[..rest.len()]);
    simd.sum(sums) + rest.iter().sum::<f32>()
}

/// `to += values`.
///
/// # Panics
/// If the lengths differ.
pub fn add_to(level: Level, to: &mut [f32], values: &[f32]) {
    assert_eq!(to.len(), values.len(), "sum of two vectors");
    level.run(AddTo { to, values });
}

struct AddTo<'a> {
    to: &'a mut [f32],
    values: &'a [f32],
}

impl Kernel for AddTo<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for (to, value) in self.to.iter_mut().zip(self.values) {
            *to += value;
        }
    }
}

/// The bits of the f16 nearest to each value.
///
/// # Panics
/// If the lengths differ.
pub fn to_f16(level: Level, values: &[f32], halves: &mut [u16]) {
    assert_eq!(values.len(), halves.len(), "one f16 per value");
    level.run(ToF16 { values, halves });
}

struct ToF16<'a> {
    values: &'a [f32],
    halves: &'a mut [u16],
}

impl Kernel for ToF16<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (vectors, rest) = self.values.as_chunks::<16>();
        let (halves, halves_rest) = self.halves.as_chunks_mut::<16>();
        for (vector, halves) in vectors.iter().zip(halves) {
            simd.to_f16(simd.load(vector), halves);
        }
        let (mut tail, mut tail_halves) = ([0.0; 16], [0; 16]);
        tail[..rest.len()].copy_from_slice(rest);
        simd.to_f16(simd.load(&tail), &mut tail_halves);
        halves_rest.copy_from_slice(&tail_halves[..rest.len()]);
    }
}
