//! Weight matrices as they lie in a file.

use std::ops::Range;

use crate::format::{Format, UnpackedUnit};

/// A weight matrix as it lies in a file: `rows` rows of `cols` values each, row-major, in blocks.
/// Format, shape and bytes agree by construction.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// A view of `bytes`; `None` if they are not `rows` rows of `cols` values in whole blocks.
    #[must_use]
    pub fn new(format: Format, rows: usize, cols: usize, bytes: &'a [u8]) -> Option<Self> {
        let row_bytes = format.row_bytes(cols).filter(|&bytes| bytes > 0)?;
        (row_bytes.checked_mul(rows)? == bytes.len()).then_some(Self {
            format,
            rows,
            cols,
            row_bytes,
            bytes,
        })
    }

    /// The rows of `packed`, unpacked.
    ///
    /// # Panics
    /// If `packed` has no rows.
    pub(crate) fn of_units(packed: Matrix<'_>, units: &'a [UnpackedUnit]) -> Self {
        let bytes: &[u8] = bytemuck::cast_slice(units);
        Self {
            format: packed.format,
            rows: packed.rows,
            cols: packed.cols,
            row_bytes: bytes.len() / packed.rows,
            bytes,
        }
    }

    /// How the values are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of rows: outputs of a product.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row: inputs of a product.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The blocks of all rows.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The blocks of one row.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.row_bytes..][..self.row_bytes]
    }

    /// The blocks of one row and of all that follow.
    pub(crate) fn rows_from(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.row_bytes..]
    }

    /// The rows `range` as a matrix.
    ///
    /// # Panics
    /// If there are no such rows.
    #[must_use]
    pub fn narrow(&self, range: Range<usize>) -> Self {
        let bytes = &self.bytes[range.start * self.row_bytes..range.end * self.row_bytes];
        Self {
            rows: range.len(),
            bytes,
            ..*self
        }
    }

    /// The values of one row.
    ///
    /// # Panics
    /// If there is no such row or `values` has not [`Matrix::cols`] elements.
    pub fn dequantize_row(&self, row: usize, values: &mut [f32]) {
        self.format.dequantize(self.row(row), values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_that_does_not_fit_its_bytes_is_refused() {
        assert!(Matrix::new(Format::Q4_0, 2, 32, &[0; 36]).is_some());
        assert!(Matrix::new(Format::Q4_0, 2, 32, &[0; 35]).is_none());
        assert!(Matrix::new(Format::Q4_0, 2, 33, &[0; 36]).is_none());
        assert!(Matrix::new(Format::Q4_0, usize::MAX, 64, &[0; 36]).is_none());
        assert!(Matrix::new(Format::Q4_0, 2, 0, &[]).is_none());
    }
}
