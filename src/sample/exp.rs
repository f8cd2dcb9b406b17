//! Sums over a whole vocabulary, in loops that compilers vectorise.
//!
//! The order of a sum and the exponential are the same on every machine.

/// Sums that are added up side by side.
const LANES: usize = 8;

/// `e` to the power of a number that is not positive; 0 below -87, where single precision ends.
///
/// As in Cephes' `expf`: `x = n ln 2 + r` with `ln 2` in two parts, and a polynomial, here Taylor's, for
/// `e^r`. Off by 3e-7 at most, relative.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LEAST: f32 = -87.0;
    // Adding this rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let within = if x > LEAST { x } else { LEAST };
    let rounded = within * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (within - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = 1.0 / 720.0;
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + coefficient;
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x < LEAST { 0.0 } else { sum * power }
}

/// The sum of what `term` makes of each number.
#[inline(always)]
pub(super) fn sum(numbers: &[f32], term: impl Fn(f32) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let chunks = numbers.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|&number| term(number)).sum();
    for chunk in chunks {
        for (lane, &number) in lanes.iter_mut().zip(chunk) {
            *lane += term(number);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// As [`sum`], for terms that take some computing: that goes on in single precision by itself.
#[inline(always)]
pub(super) fn sum_single(numbers: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut terms = [0.0; 256];
    let mut total = 0.0;
    for chunk in numbers.chunks(terms.len()) {
        let terms = &mut terms[..chunk.len()];
        for (value, &number) in terms.iter_mut().zip(chunk) {
            *value = term(number);
        }
        total += sum(terms, f64::from);
    }
    total
}

/// The greatest number, minus infinity if there is none; NaN does not count.
pub(super) fn greatest(numbers: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 4 * LANES];
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let chunks = numbers.chunks_exact(lanes.len());
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &number) in lanes.iter_mut().zip(chunk) {
            *lane = greater(*lane, number);
        }
    }
    let numbers = lanes.iter().chain(rest);
    numbers.copied().fold(f32::NEG_INFINITY, greater)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_as_exact_as_it_says() {
        for step in 0..=870_000 {
            let x = -(step as f32) / 10_000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(error < 3e-7, "{x}: {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-87.1), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn sums_and_the_greatest_take_every_number_once() {
        for count in 0..100_usize {
            let numbers: Vec<f32> = (0..count).map(|n| n as f32).collect();
            let expected = (0..count).sum::<usize>() as f64;
            assert_eq!(sum(&numbers, f64::from), expected);
            let many: Vec<f32> = numbers.iter().copied().cycle().take(7 * count).collect();
            assert_eq!(sum_single(&many, |number| -number), -7.0 * expected);
            for at in 0..count {
                let mut numbers = vec![f32::NAN; count];
                numbers[at] = -7.5;
                assert_eq!(greatest(&numbers), -7.5);
            }
        }
        assert_eq!(greatest(&[]), f32::NEG_INFINITY);
    }
}
