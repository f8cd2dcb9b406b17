//! Matrices with their biases, and parts of them.

use std::ops::Range;

use gristmill_kernels::Matrix;

use crate::tensor::WeightMatrix;

/// A matrix `[outputs, inputs]` and, where the file has one, a bias `[outputs]`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: WeightMatrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The matrices of all experts, or of all heads, `[experts, outputs, inputs]`, and their biases
/// `[experts, outputs]`.
#[derive(Debug)]
pub(crate) struct Stacked {
    pub(super) linear: Linear,
    /// Rows from one expert or head to the next, and which of them are its outputs.
    stride: usize,
    rows: Range<usize>,
}

/// A [`Linear`], or a part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearView<'a> {
    pub(crate) matrix: Matrix<'a>,
    pub(crate) bias: Option<&'a [f32]>,
}

impl Linear {
    pub(super) fn scale_bias(mut self, factor: f32) -> Self {
        let bias = self.bias.iter_mut().flatten();
        bias.for_each(|value| *value *= factor);
        self
    }

    pub(crate) fn view(&self) -> LinearView<'_> {
        LinearView {
            matrix: self.matrix.view(),
            bias: self.bias.as_deref(),
        }
    }
}

impl Stacked {
    pub(super) fn new(linear: Linear, rows: usize) -> Self {
        Self {
            linear,
            stride: rows,
            rows: 0..rows,
        }
    }

    /// The matrix of one expert or head.
    pub(crate) fn at(&self, index: usize) -> LinearView<'_> {
        let start = index * self.stride;
        let rows = start + self.rows.start..start + self.rows.end;
        self.linear.view().narrow(rows)
    }

    /// The outputs `rows` of every expert.
    pub(super) fn narrow(&self, rows: Range<usize>) -> Stacked {
        Stacked {
            linear: self.linear.clone(),
            stride: self.stride,
            rows,
        }
    }
}

impl LinearView<'_> {
    /// Only the outputs `range`.
    pub(crate) fn narrow(&self, range: Range<usize>) -> Self {
        Self {
            matrix: self.matrix.narrow(range.clone()),
            bias: self.bias.map(|bias| &bias[range]),
        }
    }
}

/// The parts of a fused projection with so many rows each.
pub(super) fn split<const PARTS: usize>(fused: &Linear, rows: [usize; PARTS]) -> [Linear; PARTS] {
    let mut end = 0;
    rows.map(|rows| {
        let range = end..end + rows;
        end = range.end;
        Linear {
            matrix: fused.matrix.narrow(range.clone()),
            bias: fused.bias.as_ref().map(|bias| bias[range].to_vec()),
        }
    })
}
