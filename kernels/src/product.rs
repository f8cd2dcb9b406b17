//! The product of weights and inputs, by the way that suits the number of tokens.

use crate::columns::{ColumnsMut, Store};
use crate::dot::dot_rows;
use crate::gemm::{Scratch, multiply};
use crate::inputs::{InputGroup, MostTokens};
use crate::level::Level;
use crate::matrix::Matrix;

/// `out[t, r] = sum over c of weights[r, c] * inputs[t, c]`, or added to it.
///
/// The tokens of `inputs` count through the groups in order. The result of an element does not
/// depend on which other rows are computed in the same call.
///
/// # Panics
/// If the shapes do not agree, or a group was filled for another level.
pub fn matmul(
    level: Level,
    weights: Matrix<'_>,
    inputs: &[InputGroup],
    scratch: &mut Scratch,
    store: Store,
    mut out: ColumnsMut<'_>,
) {
    let tokens: usize = inputs.iter().map(InputGroup::tokens).sum();
    assert_eq!(
        (out.rows(), out.cols()),
        (tokens, weights.rows()),
        "shape of the product"
    );
    assert!(
        inputs.iter().all(|group| group.cols() == weights.cols()),
        "length of the inputs"
    );
    let single = inputs.iter().all(|group| group.tokens() == 1);
    if single && (1..=level.run(MostTokens).dot).contains(&tokens) {
        dot_rows(
            level,
            weights,
            inputs,
            &mut scratch.unpacked,
            store,
            &mut out,
        );
    } else {
        multiply(level, weights, inputs, scratch, store, &mut out);
    }
}

#[cfg(test)]
mod tests;
