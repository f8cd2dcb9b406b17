//! Weights: views of a file's tensors, and small vectors read out of them.

use std::ops::Range;

use gristmill_kernels::{Format, Matrix};

use crate::gguf::{Bytes, Gguf, TensorInfo};
use crate::{Error, Result};

/// A weight matrix `[rows, cols]` in the file's own layout; nothing is copied.
///
/// Format, shape and bytes agree by construction.
#[derive(Clone, Debug)]
pub(crate) struct WeightMatrix {
    format: Format,
    cols: usize,
    /// The rows of the tensor that belong to this matrix.
    rows: Range<usize>,
    tensor_rows: usize,
    bytes: Bytes,
}

impl WeightMatrix {
    /// The tensor as a matrix of `tensor.rows()` rows.
    pub(crate) fn bind(gguf: &Gguf, tensor: &TensorInfo) -> Result<Self> {
        let format = format_of(gguf, tensor)?;
        let matrix = Self {
            format,
            cols: tensor.cols(),
            rows: 0..tensor.rows(),
            tensor_rows: tensor.rows(),
            bytes: gguf.tensor_view(tensor),
        };
        match Matrix::new(format, matrix.tensor_rows, matrix.cols, &matrix.bytes) {
            Some(_) => Ok(matrix),
            None => Err(Error::Malformed {
                place: gguf.place_of_tensor(tensor.name()),
                expected: format!(
                    "{} rows of {} {}",
                    tensor.rows(),
                    tensor.cols(),
                    format.name()
                ),
                found: format!("{} bytes", tensor.byte_len()),
            }),
        }
    }

    /// The rows `range` of this matrix, which has them.
    pub(crate) fn narrow(&self, range: Range<usize>) -> Self {
        let start = self.rows.start;
        Self {
            rows: start + range.start..start + range.end,
            ..self.clone()
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn view(&self) -> Matrix<'_> {
        Matrix::new(self.format, self.tensor_rows, self.cols, &self.bytes)
            .expect("bind has checked it")
            .narrow(self.rows.clone())
    }
}

/// The values of a small tensor, such as a norm's weight or a bias.
pub(crate) fn read_values(gguf: &Gguf, tensor: &TensorInfo) -> Result<Vec<f32>> {
    let matrix = WeightMatrix::bind(gguf, tensor)?;
    let (matrix, cols) = (matrix.view(), tensor.cols());
    let mut values = vec![0.0; matrix.rows() * cols];
    for (row, values) in values.chunks_exact_mut(cols).enumerate() {
        matrix.dequantize_row(row, values);
    }
    Ok(values)
}

/// The kernels' format of a tensor.
fn format_of(gguf: &Gguf, tensor: &TensorInfo) -> Result<Format> {
    Format::from_ggml_type(tensor.ggml_type().number()).ok_or_else(|| Error::Unsupported {
        place: gguf.place_of_tensor(tensor.name()),
        what: format!("type {}", tensor.ggml_type().name()),
        supported: Format::ALL
            .iter()
            .map(|format| format.name())
            .collect::<Vec<_>>()
            .join(", "),
    })
}
