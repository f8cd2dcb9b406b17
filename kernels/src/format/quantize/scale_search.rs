//! The searches of the K-quants for the scale, and the min, of a sub-block: each tries some scales
//! near the obvious one, solves for the best with the quants that they give, and keeps the best.
//!
//! Sums are in the order of ggml's `make_qx_quants`, `make_q3_quants` and `make_qkx2_quants`.

use super::{largest, nearest};

/// Sub-blocks without a larger magnitude are zeros (ggml's `GROUP_MAX_EPS`).
pub(super) const SMALLEST: f32 = 1e-15;

/// A scale for values around zero and the quants, which are in `-zero..zero`, plus `zero`; errors
/// weighed by the square of the value. As ggml's `make_qx_quants` with `rmse_type` 1.
pub(super) fn symmetric<const N: usize>(values: &[f32; N], zero: i32) -> (f32, [u8; N]) {
    let largest = largest(values);
    if largest.abs() < SMALLEST {
        return (0.0, [0; N]);
    }
    let quant = |inverse: f32, value: f32| nearest(inverse * value).clamp(-zero, zero - 1);
    // The numerator and the denominator of the least-squares scale.
    let sums = |inverse: f32| {
        values.iter().fold((0.0, 0.0), |(products, squares), &x| {
            let (weight, l) = (x * x, quant(inverse, x) as f32);
            (products + weight * x * l, squares + weight * l * l)
        })
    };
    let mut inverse = -zero as f32 / largest;
    let (products, squares) = sums(inverse);
    let mut scale = if squares != 0.0 {
        products / squares
    } else {
        0.0
    };
    let mut best = scale * products;
    for step in (-9..=9).filter(|step| *step != 0) {
        let tried = -(zero as f32 + 0.1 * step as f32) / largest;
        let (products, squares) = sums(tried);
        if squares > 0.0 && products * products > best * squares {
            inverse = tried;
            scale = products / squares;
            best = scale * products;
        }
    }
    let quants = values.map(|value| (quant(inverse, value) + zero) as u8);
    (scale, quants)
}

/// As [`symmetric`], but starting from the obvious scale each quant is moved as long as that helps.
/// As ggml's `make_q3_quants`.
pub(super) fn symmetric_by_moves<const N: usize>(values: &[f32; N], zero: i32) -> (f32, [u8; N]) {
    const ROUNDS: usize = 5;
    let largest = largest(values);
    if largest.abs() < SMALLEST {
        return (0.0, [0; N]);
    }
    let inverse = -zero as f32 / largest;
    let mut quants = values.map(|x| nearest(inverse * x).clamp(-zero, zero - 1));
    let (mut products, mut squares) = (0.0, 0.0);
    for (&x, &quant) in values.iter().zip(&quants) {
        let (weight, l) = (x * x, quant as f32);
        products += weight * x * l;
        squares += weight * l * l;
    }
    for _ in 0..ROUNDS {
        let mut moved = false;
        for (&x, quant) in values.iter().zip(&mut quants) {
            let (weight, l) = (x * x, *quant as f32);
            // The sums without this value.
            let mut other_products = products - weight * x * l;
            if other_products <= 0.0 {
                continue;
            }
            let mut other_squares = squares - weight * l * l;
            let better = nearest(x * other_squares / other_products).clamp(-zero, zero - 1);
            if better == *quant {
                continue;
            }
            let l = better as f32;
            other_products += weight * x * l;
            other_squares += weight * l * l;
            if other_squares > 0.0
                && other_products * other_products * squares > products * products * other_squares
            {
                (*quant, products, squares) = (better, other_products, other_squares);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let scale = if squares > 0.0 {
        products / squares
    } else {
        0.0
    };
    (scale, quants.map(|quant| (quant + zero) as u8))
}

/// How [`Affine`] searches: inverse scales `(most + first + step * i) / (max - min)`.
pub(super) struct Search {
    /// The largest quant.
    pub(super) most: i32,
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) steps: u32,
    /// Errors count by their size, else by their square.
    pub(super) absolute: bool,
}

/// `value = scale * quant - min`; neither is negative unless values are strange.
pub(super) struct Affine<const N: usize> {
    pub(super) scale: f32,
    pub(super) min: f32,
    pub(super) quants: [u8; N],
}

impl<const N: usize> Affine<N> {
    /// As ggml's `make_qkx2_quants`.
    pub(super) fn search(values: &[f32; N], weights: &[f32; N], search: &Search) -> Self {
        let (low, high) = super::bounds(values);
        let low = if low > 0.0 { 0.0 } else { low };
        if high == low {
            return Self {
                scale: 0.0,
                min: -low,
                quants: [0; N],
            };
        }
        let sums = Sums::of(values, weights);
        let most = search.most as f32;
        let quantise = |inverse: f32, low: f32| {
            values.map(|value| nearest(inverse * (value - low)).clamp(0, search.most) as u8)
        };
        let error = |scale: f32, low: f32, quants: &[u8; N]| {
            let mut error = 0.0;
            for i in 0..N {
                let off = scale * f32::from(quants[i]) + low - values[i];
                error += weights[i]
                    * if search.absolute {
                        off.abs()
                    } else {
                        off * off
                    };
            }
            error
        };
        let inverse = most / (high - low);
        let mut best = Self {
            scale: 1.0 / inverse,
            min: low,
            quants: quantise(inverse, low),
        };
        let mut least = error(best.scale, best.min, &best.quants);
        for i in 0..=search.steps {
            // From the best min so far, not from the least value.
            let low = best.min;
            let inverse = (search.first + search.step * i as f32 + most) / (high - low);
            let quants = quantise(inverse, low);
            if let Some((scale, min)) = sums.solve(values, weights, &quants) {
                let error = error(scale, min, &quants);
                if error < least {
                    least = error;
                    best = Self { scale, min, quants };
                }
            }
        }
        best.min = -best.min;
        best
    }
}

/// The sums of the least-squares problem that do not depend on the quants.
struct Sums {
    weights: f32,
    values: f32,
}

impl Sums {
    fn of(values: &[f32], weights: &[f32]) -> Self {
        let mut sums = Self {
            weights: 0.0,
            values: 0.0,
        };
        for (value, weight) in values.iter().zip(weights) {
            sums.weights += weight;
            sums.values += weight * value;
        }
        sums
    }

    /// The best scale and min (added, at most 0) for these quants.
    fn solve(&self, values: &[f32], weights: &[f32], quants: &[u8]) -> Option<(f32, f32)> {
        let (mut sum, mut squares, mut products) = (0.0_f32, 0.0_f32, 0.0_f32);
        for ((value, weight), quant) in values.iter().zip(weights).zip(quants) {
            let l = f32::from(*quant);
            sum += weight * l;
            squares += weight * l * l;
            products += weight * l * value;
        }
        let determinant = self.weights * squares - sum * sum;
        if determinant <= 0.0 || determinant.is_nan() {
            return None;
        }
        let min = (squares * self.values - sum * products) / determinant;
        if min > 0.0 {
            return Some((products / squares, 0.0));
        }
        let scale = (self.weights * products - self.values * sum) / determinant;
        Some((scale, min))
    }
}
