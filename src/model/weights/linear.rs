//! Matrices with their biases, and parts of them.

use std::ops::Range;

use gristmill_kernels::Matrix;

use crate::tensor::WeightMatrix;

/// A matrix `[outputs, inputs]` and, where the file has one, a bias `[outputs]`: `scale * matrix . inputs
/// + bias`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: WeightMatrix,
    /// Of NVFP4 matrices, which the file has one for.
    pub(super) scale: f32,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The matrices of all experts, or of all heads, `[experts, outputs, inputs]`, and their biases
/// `[experts, outputs]`.
#[derive(Debug)]
pub(crate) struct Stacked {
    linear: Linear,
    /// One for each expert, or none.
    scales: Vec<f32>,
    /// Rows from one expert or head to the next, and which of them are its outputs.
    stride: usize,
    rows: Range<usize>,
}

/// A [`Linear`], or a part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearView<'a> {
    pub(crate) matrix: Matrix<'a>,
    pub(crate) scale: f32,
    pub(crate) bias: Option<&'a [f32]>,
}

/// The last projection of a branch, whose outputs may be added to what is there: its inputs are
/// multiplied by what the outputs would be.
#[derive(Debug)]
pub(crate) struct BranchOutput {
    pub(crate) linear: Linear,
    pub(crate) input_scale: f32,
}

impl Linear {
    /// Multiplies the outputs by `factor`, and leaves the scale to the inputs.
    pub(super) fn into_branch_output(mut self, factor: f32) -> BranchOutput {
        let bias = self.bias.iter_mut().flatten();
        bias.for_each(|value| *value *= factor);
        BranchOutput {
            input_scale: self.scale * factor,
            linear: Self { scale: 1.0, ..self },
        }
    }

    pub(crate) fn view(&self) -> LinearView<'_> {
        LinearView {
            matrix: self.matrix.view(),
            scale: self.scale,
            bias: self.bias.as_deref(),
        }
    }
}

impl Stacked {
    pub(super) fn new(linear: Linear, scales: Vec<f32>, rows: usize) -> Self {
        Self {
            linear,
            scales,
            stride: rows,
            rows: 0..rows,
        }
    }

    /// The matrix of one expert or head.
    pub(crate) fn at(&self, index: usize) -> LinearView<'_> {
        let start = index * self.stride;
        let rows = start + self.rows.start..start + self.rows.end;
        let view = self.linear.view().narrow(rows);
        let scale = self.scales.get(index).copied().unwrap_or(view.scale);
        LinearView { scale, ..view }
    }

    /// The outputs `rows` of every expert.
    pub(super) fn narrow(&self, rows: Range<usize>) -> Stacked {
        Stacked {
            linear: self.linear.clone(),
            scales: self.scales.clone(),
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
            scale: self.scale,
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
            scale: fused.scale,
            bias: fused.bias.as_ref().map(|bias| bias[range].to_vec()),
        }
    })
}
