//! Value by value.

use crate::level::Level;
use crate::simd::{Kernel, Simd};

/// Activation functions of feed-forward networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// In the form with tanh, which equals `x / (1 + e^(-2 u))` with `u = sqrt(2 / pi) * (x + 0.044715
    /// x^3)` (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016).
    Gelu,
    /// `g / (1 + e^(-1.702 g)) * (up + 1)` where `g = min(x, 7)` and `up` is kept from -7 to 7 (gpt-oss).
    ClampedSilu,
}

/// `gate = activation(gate) * up`.
///
/// # Panics
/// If the lengths differ.
pub fn gate_mul(level: Level, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "gate and up");
    level.run(Activate {
        activation,
        values: gate,
        up: Some(up),
    });
}

/// `values = activation(values)`.
pub fn activate(level: Level, activation: Activation, values: &mut [f32]) {
    level.run(Activate {
        activation,
        values,
        up: None,
    });
}

struct Activate<'a> {
    activation: Activation,
    values: &'a mut [f32],
    /// Ones where there is nothing.
    up: Option<&'a [f32]>,
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self {
            activation,
            values,
            up,
        } = self;
        match activation {
            Activation::Silu => map(simd, values, up, Silu),
            Activation::Gelu => map(simd, values, up, Gelu),
            Activation::ClampedSilu => map(simd, values, up, ClampedSilu),
        }
    }
}

/// A function of two numbers. No closure: those are compiled without the level's instructions.
trait Map: Copy {
    fn of<S: Simd>(self, simd: S, x: S::Floats, other: S::Floats) -> S::Floats;
}

#[derive(Clone, Copy)]
struct Silu;

impl Map for Silu {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::Floats, up: S::Floats) -> S::Floats {
        simd.mul(times_sigmoid(simd, x, x), up)
    }
}

#[derive(Clone, Copy)]
struct Gelu;

impl Map for Gelu {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::Floats, up: S::Floats) -> S::Floats {
        let scale = simd.splat(2.0 * (2.0 * std::f32::consts::FRAC_1_PI).sqrt());
        let cubic = simd.mul(simd.splat(0.044_715), simd.mul(x, x));
        let twice = simd.mul(simd.mul(scale, x), simd.add(simd.splat(1.0), cubic));
        simd.mul(times_sigmoid(simd, x, twice), up)
    }
}

#[derive(Clone, Copy)]
struct ClampedSilu;

impl Map for ClampedSilu {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::Floats, up: S::Floats) -> S::Floats {
        let (least, most) = (simd.splat(-7.0), simd.splat(7.0));
        let x = simd.min(x, most);
        let up = simd.max(simd.min(up, most), least);
        let gate = times_sigmoid(simd, x, simd.mul(simd.splat(1.702), x));
        simd.mul(gate, simd.add(up, simd.splat(1.0)))
    }
}

/// `values *= sigmoid(gate)`, where `sigmoid(x) = 1 / (1 + e^-x)`.
///
/// # Panics
/// If the lengths differ.
pub fn sigmoid_mul(level: Level, values: &mut [f32], gate: &[f32]) {
    assert_eq!(values.len(), gate.len(), "values and gate");
    level.run(SigmoidMul { values, gate });
}

struct SigmoidMul<'a> {
    values: &'a mut [f32],
    gate: &'a [f32],
}

impl Kernel for SigmoidMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        map(simd, self.values, Some(self.gate), TimesSigmoid);
    }
}

#[derive(Clone, Copy)]
struct TimesSigmoid;

impl Map for TimesSigmoid {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, value: S::Floats, gate: S::Floats) -> S::Floats {
        times_sigmoid(simd, value, gate)
    }
}

/// `value / (1 + e^-x)`.
#[inline(always)]
fn times_sigmoid<S: Simd>(simd: S, value: S::Floats, x: S::Floats) -> S::Floats {
    let negated = simd.sub(simd.splat(0.0), x);
    simd.div(value, simd.add(simd.splat(1.0), simd.exp(negated)))
}

/// `cap * tanh(values / cap)`: no magnitude beyond `cap`.
pub fn soft_cap(level: Level, cap: f32, values: &mut [f32]) {
    level.run(SoftCap { cap, values });
}

struct SoftCap<'a> {
    cap: f32,
    values: &'a mut [f32],
}

impl Kernel for SoftCap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        soft_cap_in(simd, self.cap, self.values);
    }
}

#[inline(always)]
pub(super) fn soft_cap_in<S: Simd>(simd: S, cap: f32, values: &mut [f32]) {
    map(simd, values, None, Cap(cap));
}

#[derive(Clone, Copy)]
struct Cap(f32);

impl Map for Cap {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::Floats, _: S::Floats) -> S::Floats {
        // tanh(y) = 2 sigmoid(2 y) - 1
        let (one, twice) = (simd.splat(1.0), simd.mul(x, simd.splat(2.0 / self.0)));
        let sigmoid = times_sigmoid(simd, one, twice);
        simd.mul(
            simd.splat(self.0),
            simd.sub(simd.add(sigmoid, sigmoid), one),
        )
    }
}

/// Replaces each of `values` by `map` of it and its neighbour in `others`, of the same length; of 1
/// where there is none.
#[inline(always)]
fn map<S: Simd>(simd: S, values: &mut [f32], others: Option<&[f32]>, map: impl Map) {
    let (vectors, rest) = values.as_chunks_mut::<16>();
    let (other_vectors, other_rest) = others.unwrap_or_default().as_chunks::<16>();
    let ones = [1.0; 16];
    for (i, vector) in vectors.iter_mut().enumerate() {
        let other = simd.load(other_vectors.get(i).unwrap_or(&ones));
        simd.store(map.of(simd, simd.load(vector), other), vector);
    }
    let (mut tail, mut other_tail) = ([0.0; 16], ones);
    tail[..rest.len()].copy_from_slice(rest);
    other_tail[..other_rest.len()].copy_from_slice(other_rest);
    let mapped = map.of(simd, simd.load(&tail), simd.load(&other_tail));
    simd.store(mapped, &mut tail);
    rest.copy_from_slice(&tail[..rest.len()]);
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

/// `to += a * b`, value by value.
///
/// # Panics
/// If the lengths differ.
pub fn add_product(level: Level, to: &mut [f32], a: &[f32], b: &[f32]) {
    assert_eq!((to.len(), to.len()), (a.len(), b.len()), "three vectors");
    level.run(AddProduct { to, a, b });
}

struct AddProduct<'a> {
    to: &'a mut [f32],
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for ((to, a), b) in self.to.iter_mut().zip(self.a).zip(self.b) {
            *to += a * b;
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
