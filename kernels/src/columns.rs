//! Where a product goes: some columns of a row-major matrix.

use std::marker::PhantomData;
use std::ops::Range;

/// What happens to the values that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// They are replaced.
    Replace,
    /// The product is added to them: a bias or a residual that was put there before.
    Add,
}

/// Some columns of a row-major `f32` matrix, writable.
///
/// Threads that share a product write to different columns of the same rows, which no slice can
/// say; this can.
#[derive(Debug)]
pub struct ColumnsMut<'a> {
    first: *mut f32,
    rows: usize,
    cols: usize,
    /// Elements from a row to the next.
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> ColumnsMut<'a> {
    /// All columns of `values`, row-major `[values.len() / cols, cols]`.
    ///
    /// # Panics
    /// If `cols` is 0 or `values` are not whole rows.
    #[must_use]
    pub fn new(values: &'a mut [f32], cols: usize) -> Self {
        assert!(
            cols > 0 && values.len().is_multiple_of(cols),
            "{} values in rows of {cols}",
            values.len()
        );
        // SAFETY: the rows are exactly the slice, which is borrowed for the lifetime.
        unsafe { Self::from_raw(values.as_mut_ptr(), values.len() / cols, cols, cols) }
    }

    /// `cols` elements from `first` on, and so `rows` times, `stride` elements apart.
    ///
    /// # Safety
    /// * every such element is inside one allocation and initialised;
    /// * for the lifetime nothing else reads or writes them;
    /// * `stride >= cols`.
    #[must_use]
    pub unsafe fn from_raw(first: *mut f32, rows: usize, cols: usize, stride: usize) -> Self {
        Self {
            first,
            rows,
            cols,
            stride,
            lifetime: PhantomData,
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The columns of one row.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: a row below `rows` is part of what the constructor was promised; `&mut self`
        // keeps a second reference from being made at the same time.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.cols) }
    }

    /// The same columns once more, until this is used again.
    #[must_use]
    pub fn reborrow(&mut self) -> ColumnsMut<'_> {
        // SAFETY: what the constructor was promised; `self` is borrowed as long as this lives.
        unsafe { ColumnsMut::from_raw(self.first, self.rows, self.cols, self.stride) }
    }

    /// Only the columns `range`.
    ///
    /// # Panics
    /// If there are no such columns.
    #[must_use]
    pub fn narrow(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.cols,
            "{range:?} of {}",
            self.cols
        );
        // SAFETY: a part of what the constructor was promised; `self` is gone.
        unsafe {
            Self::from_raw(
                self.first.add(range.start),
                self.rows,
                range.len(),
                self.stride,
            )
        }
    }

    /// Only the rows `range`.
    ///
    /// # Panics
    /// If there are no such rows.
    #[must_use]
    pub fn narrow_rows(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.rows,
            "{range:?} of {}",
            self.rows
        );
        // SAFETY: a part of what the constructor was promised; `self` is gone.
        unsafe {
            Self::from_raw(
                self.first.wrapping_add(range.start * self.stride),
                range.len(),
                self.cols,
                self.stride,
            )
        }
    }
}
