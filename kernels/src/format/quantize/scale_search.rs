//! The searches of the K-quants for the scale, and the min, of a sub-block: each tries some scales
//! near the obvious one, solves for the best with the quants that they give, and keeps the best.
//!
//! Sums are in the order of ggml's `make_qx_quants`, `make_q3_quants` and `make_qkx2_quants`, so that
//! all bits are the same. What takes the time is done to [`LANES`] sub-blocks at once, one in each
//! lane, as no order of a sum changes by that.

use super::{largest, nearest};
use crate::simd::{MAGIC, Simd};

/// Sub-blocks that are searched at the same time.
pub(super) const LANES: usize = 16;

/// Value `i` of each of the sub-blocks.
pub(super) type Columns<const N: usize> = [[f32; LANES]; N];

/// Sub-blocks without a larger magnitude are zeros (ggml's `GROUP_MAX_EPS`).
pub(super) const SMALLEST: f32 = 1e-15;

/// Sub-blocks of `N` values that follow each other as columns. If there are fewer than [`LANES`], they
/// are there again; `values` is not empty.
pub(super) fn columns<const N: usize>(values: &[f32]) -> Columns<N> {
    let subs = values.as_chunks::<N>().0;
    let mut columns = [[0.0; LANES]; N];
    for (lane, sub) in subs.iter().cycle().take(LANES).enumerate() {
        for (column, &value) in columns.iter_mut().zip(sub) {
            column[lane] = value;
        }
    }
    columns
}

/// Scales for values around zero and the quants, which are in `-zero..zero`, plus `zero`; errors
/// weighed by the square of the value. As ggml's `make_qx_quants` with `rmse_type` 1.
#[inline(always)]
pub(super) fn symmetric<S: Simd, const N: usize>(
    simd: S,
    values: &Columns<N>,
    zero: i32,
) -> ([f32; LANES], Columns<N>) {
    let zero = zero as f32;
    let largest = largest_of_lanes(values);
    let inverse = simd.div(simd.splat(-zero), simd.load(&largest));
    let (products, squares) = symmetric_sums(simd, values, inverse, zero);
    let mut inverses = stored(simd, inverse);
    let mut scales = [0.0; LANES];
    let mut best = [0.0; LANES];
    for lane in 0..LANES {
        if squares[lane] != 0.0 {
            scales[lane] = products[lane] / squares[lane];
        }
        best[lane] = scales[lane] * products[lane];
    }
    for step in (-9..=9).filter(|step| *step != 0) {
        let factor = simd.splat(-(zero + 0.1 * step as f32));
        let inverse = simd.div(factor, simd.load(&largest));
        let (products, squares) = symmetric_sums(simd, values, inverse, zero);
        let tried = stored(simd, inverse);
        for lane in 0..LANES {
            let (products, squares) = (products[lane], squares[lane]);
            if squares > 0.0 && products * products > best[lane] * squares {
                inverses[lane] = tried[lane];
                scales[lane] = products / squares;
                best[lane] = scales[lane] * products;
            }
        }
    }
    let inverse = simd.load(&inverses);
    let mut quants = *values;
    for column in &mut quants {
        let quant = symmetric_quant(simd, simd.load(column), inverse, zero);
        simd.store(simd.add(quant, simd.splat(zero)), column);
    }
    for lane in (0..LANES).filter(|&lane| largest[lane].abs() < SMALLEST) {
        scales[lane] = 0.0;
        quants.iter_mut().for_each(|column| column[lane] = 0.0);
    }
    (scales, quants)
}

/// The numerators and the denominators of the least-squares scales for the quants that `inverse` gives.
#[inline(always)]
fn symmetric_sums<S: Simd, const N: usize>(
    simd: S,
    values: &Columns<N>,
    inverse: S::Floats,
    zero: f32,
) -> ([f32; LANES], [f32; LANES]) {
    let (mut products, mut squares) = (simd.splat(0.0), simd.splat(0.0));
    for column in values {
        let x = simd.load(column);
        let (weight, l) = (simd.mul(x, x), symmetric_quant(simd, x, inverse, zero));
        products = simd.add(products, simd.mul(simd.mul(weight, x), l));
        squares = simd.add(squares, simd.mul(simd.mul(weight, l), l));
    }
    (stored(simd, products), stored(simd, squares))
}

#[inline(always)]
fn symmetric_quant<S: Simd>(simd: S, x: S::Floats, inverse: S::Floats, zero: f32) -> S::Floats {
    let quant = round(simd, simd.mul(inverse, x));
    simd.min(simd.max(quant, simd.splat(-zero)), simd.splat(zero - 1.0))
}

/// The value of the largest magnitude of each sub-block, with its sign; the first of several.
#[inline(always)]
fn largest_of_lanes<const N: usize>(values: &Columns<N>) -> [f32; LANES] {
    let mut largest = [0.0_f32; LANES];
    for column in values {
        for (largest, &value) in largest.iter_mut().zip(column) {
            if value.abs() > largest.abs() {
                *largest = value;
            }
        }
    }
    largest
}

/// A scale and quants as [`symmetric`] gives them, of one sub-block, but starting from the obvious
/// scale each quant is moved as long as that helps. As ggml's `make_q3_quants`.
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
    pub(super) most: u8,
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) steps: u32,
    /// Errors count by their size, else by their square.
    pub(super) absolute: bool,
}

/// `value = scale * quant - min`; neither is negative unless values are strange.
pub(super) struct Affine<const N: usize> {
    pub(super) scales: [f32; LANES],
    pub(super) mins: [f32; LANES],
    pub(super) quants: Columns<N>,
}

impl<const N: usize> Affine<N> {
    /// As ggml's `make_qkx2_quants`.
    #[inline(always)]
    pub(super) fn search<S: Simd>(
        simd: S,
        values: &Columns<N>,
        weights: &Columns<N>,
        search: &Search,
    ) -> Self {
        let problem = Problem::new(simd, values, weights, search);
        let (least, high) = problem.bounds();
        let most = f32::from(search.most);
        let low = simd.min(least, simd.splat(0.0));
        let inverse = simd.div(simd.splat(most), simd.sub(high, low));
        let mut quants = [simd.splat(0.0); N];
        problem.quantise(inverse, low, &mut quants);
        let scale = simd.div(simd.splat(1.0), inverse);
        let mut best = Best {
            error: stored(simd, problem.error(scale, low, &quants)),
            scales: stored(simd, scale),
            mins: stored(simd, low),
            inverses: stored(simd, inverse),
            lows: stored(simd, low),
        };
        for i in 0..=search.steps {
            // From the best min so far, not from the least value.
            let low = simd.load(&best.mins);
            let factor = search.first + search.step * i as f32 + most;
            let inverse = simd.div(simd.splat(factor), simd.sub(high, low));
            let sums = problem.quantise(inverse, low, &mut quants);
            let solved = problem.solve(sums);
            let (scale, min) = (simd.load(&solved.scales), simd.load(&solved.mins));
            let error = stored(simd, problem.error(scale, min, &quants));
            best.improve(&solved, &error, &stored(simd, inverse));
        }
        problem.quantise(
            simd.load(&best.inverses),
            simd.load(&best.lows),
            &mut quants,
        );
        let mut found = Self {
            scales: best.scales,
            mins: best.mins.map(|min| -min),
            quants: quants.map(|column| stored(simd, column)),
        };
        let (low, high) = (stored(simd, low), stored(simd, high));
        for lane in (0..LANES).filter(|&lane| low[lane] == high[lane]) {
            found.scales[lane] = 0.0;
            found.mins[lane] = -low[lane];
            found
                .quants
                .iter_mut()
                .for_each(|column| column[lane] = 0.0);
        }
        found
    }
}

/// The best so far, of each sub-block.
struct Best {
    error: [f32; LANES],
    scales: [f32; LANES],
    /// Added, so at most 0.
    mins: [f32; LANES],
    /// What the quants were taken with: the inverse scales and the values of quant 0.
    inverses: [f32; LANES],
    lows: [f32; LANES],
}

impl Best {
    #[inline(always)]
    fn improve(&mut self, solved: &Solved, error: &[f32; LANES], inverses: &[f32; LANES]) {
        for lane in 0..LANES {
            if solved.determinants[lane] > 0.0 && error[lane] < self.error[lane] {
                self.error[lane] = error[lane];
                self.scales[lane] = solved.scales[lane];
                self.inverses[lane] = inverses[lane];
                self.lows[lane] = self.mins[lane];
                self.mins[lane] = solved.mins[lane];
            }
        }
    }
}

/// The best scales and mins for some quants, where the determinant is positive.
struct Solved {
    determinants: [f32; LANES],
    scales: [f32; LANES],
    mins: [f32; LANES],
}

/// A weighted least-squares problem in each lane.
struct Problem<'a, S: Simd, const N: usize> {
    simd: S,
    values: &'a Columns<N>,
    weights: &'a Columns<N>,
    most: S::Floats,
    absolute: bool,
    /// The sums that do not depend on the quants: of the weights, and of weight times value.
    weight_sum: S::Floats,
    value_sum: S::Floats,
}

/// Sums of weight times quant, times quant again, and times value.
struct Sums<S: Simd> {
    quants: S::Floats,
    squares: S::Floats,
    products: S::Floats,
}

impl<'a, S: Simd, const N: usize> Problem<'a, S, N> {
    #[inline(always)]
    fn new(simd: S, values: &'a Columns<N>, weights: &'a Columns<N>, search: &Search) -> Self {
        let (mut weight_sum, mut value_sum) = (simd.splat(0.0), simd.splat(0.0));
        for (value, weight) in values.iter().zip(weights) {
            let (value, weight) = (simd.load(value), simd.load(weight));
            weight_sum = simd.add(weight_sum, weight);
            value_sum = simd.add(value_sum, simd.mul(weight, value));
        }
        Self {
            simd,
            values,
            weights,
            most: simd.splat(f32::from(search.most)),
            absolute: search.absolute,
            weight_sum,
            value_sum,
        }
    }

    /// The least and the largest values.
    #[inline(always)]
    fn bounds(&self) -> (S::Floats, S::Floats) {
        let simd = self.simd;
        let mut bounds = (simd.splat(f32::MAX), simd.splat(-f32::MAX));
        for value in self.values {
            let value = simd.load(value);
            bounds = (simd.min(bounds.0, value), simd.max(bounds.1, value));
        }
        bounds
    }

    /// The nearest quants, `low` being the value of quant 0, and their sums.
    #[inline(always)]
    fn quantise(&self, inverse: S::Floats, low: S::Floats, quants: &mut [S::Floats; N]) -> Sums<S> {
        let simd = self.simd;
        let zero = simd.splat(0.0);
        let (mut sum, mut squares, mut products) = (zero, zero, zero);
        for ((value, weight), quant) in self.values.iter().zip(self.weights).zip(quants) {
            let value = simd.load(value);
            let nearest = round(simd, simd.mul(inverse, simd.sub(value, low)));
            *quant = simd.min(simd.max(nearest, zero), self.most);
            let (weight, quant) = (simd.load(weight), *quant);
            let weighted = simd.mul(weight, quant);
            sum = simd.add(sum, weighted);
            squares = simd.add(squares, simd.mul(weighted, quant));
            products = simd.add(products, simd.mul(weighted, value));
        }
        Sums {
            quants: sum,
            squares,
            products,
        }
    }

    #[inline(always)]
    fn solve(&self, sums: Sums<S>) -> Solved {
        let simd = self.simd;
        let Sums {
            quants,
            squares,
            products,
        } = sums;
        let determinant = minor(simd, [self.weight_sum, squares], [quants, quants]);
        let scale = minor(simd, [self.weight_sum, products], [self.value_sum, quants]);
        let min = minor(simd, [squares, self.value_sum], [quants, products]);
        let mut solved = Solved {
            determinants: stored(simd, determinant),
            scales: stored(simd, simd.div(scale, determinant)),
            mins: stored(simd, simd.div(min, determinant)),
        };
        let without_min = stored(simd, simd.div(products, squares));
        for (lane, &scale) in without_min.iter().enumerate() {
            if solved.mins[lane] > 0.0 {
                solved.mins[lane] = 0.0;
                solved.scales[lane] = scale;
            }
        }
        solved
    }

    /// The weighted sums of errors.
    #[inline(always)]
    fn error(&self, scale: S::Floats, min: S::Floats, quants: &[S::Floats; N]) -> S::Floats {
        let simd = self.simd;
        let mut error = simd.splat(0.0);
        for ((value, weight), &quant) in self.values.iter().zip(self.weights).zip(quants) {
            let found = simd.add(simd.mul(scale, quant), min);
            let off = simd.sub(found, simd.load(value));
            let off = if self.absolute {
                simd.abs(off)
            } else {
                simd.mul(off, off)
            };
            error = simd.add(error, simd.mul(simd.load(weight), off));
        }
        error
    }
}

/// The difference of two products.
#[inline(always)]
fn minor<S: Simd>(simd: S, [a, b]: [S::Floats; 2], [c, d]: [S::Floats; 2]) -> S::Floats {
    simd.sub(simd.mul(a, b), simd.mul(c, d))
}

/// The nearest integers, ties to even, for magnitudes below 2^22.
#[inline(always)]
fn round<S: Simd>(simd: S, floats: S::Floats) -> S::Floats {
    let magic = simd.splat(MAGIC);
    simd.sub(simd.add(floats, magic), magic)
}

#[inline(always)]
fn stored<S: Simd>(simd: S, floats: S::Floats) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    simd.store(floats, &mut lanes);
    lanes
}
