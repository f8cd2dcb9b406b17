//! Rotary position embedding (Su et al., "RoFormer", 2021).

use crate::level::Level;
use crate::simd::{Kernel, Simd};

/// Which two values of a head make a pair that is rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `2i` and `2i + 1` (ggml's NORM).
    Adjacent,
    /// `i` and `i + n_rot / 2` (ggml's NEOX).
    Halves,
}

/// Rotates the first `2 * cos.len()` values of each head of one token by the angles of its position.
///
/// `heads` is row-major `[heads, head_dim]`.
///
/// # Panics
/// If `sin` has another length than `cos`, a head is shorter than what rotates, or `heads` are not
/// whole.
pub fn rotate(
    level: Level,
    pairing: Pairing,
    cos: &[f32],
    sin: &[f32],
    head_dim: usize,
    heads: &mut [f32],
) {
    assert_eq!(cos.len(), sin.len(), "one angle per pair");
    assert!(
        2 * cos.len() <= head_dim && heads.len().is_multiple_of(head_dim),
        "whole heads of {head_dim}"
    );
    level.run(Rotate {
        pairing,
        cos,
        sin,
        head_dim,
        heads,
    });
}

struct Rotate<'a> {
    pairing: Pairing,
    cos: &'a [f32],
    sin: &'a [f32],
    head_dim: usize,
    heads: &'a mut [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        // Plain loops: the compiler turns them into this level's instructions.
        let Self {
            pairing,
            cos,
            sin,
            head_dim,
            heads,
        } = self;
        let angles = cos.iter().zip(sin);
        for head in heads.chunks_exact_mut(head_dim) {
            let head = &mut head[..2 * cos.len()];
            match pairing {
                Pairing::Adjacent => {
                    for ([a, b], (cos, sin)) in
                        head.as_chunks_mut().0.iter_mut().zip(angles.clone())
                    {
                        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                    }
                }
                Pairing::Halves => {
                    let (low, high) = head.split_at_mut(cos.len());
                    for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(angles.clone()) {
                        (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                    }
                }
            }
        }
    }
}
