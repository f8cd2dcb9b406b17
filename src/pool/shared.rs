//! Buffers that the shares of a pass read and write by turns.
#![allow(
    unsafe_code,
    reason = "the one place where threads share memory that is written"
)]

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use gristmill_kernels::ColumnsMut;

use super::{Pool, Share};

/// Columns are handed out in multiples of this: the rows of a panel at the widest level.
const COLUMNS: usize = 32;

/// A row-major matrix `[rows, cols]` that the shares of a pass read and write by turns.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    /// The only pool whose threads may use it: passes of one pool never overlap.
    pool: u64,
    cells: Box<[UnsafeCell<T>]>,
    rows: usize,
    cols: usize,
    notes: Box<[Note]>,
}

/// The last phase in which a share of this number read and wrote a buffer. A cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Note {
    read: AtomicU64,
    /// The phase times two, plus one where columns are written.
    written: AtomicU64,
    /// How many rows or columns were divided; stored before `written`.
    extent: AtomicUsize,
}

/// How a buffer is divided between the shares that write it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    Rows,
    Columns,
}

/// The rows of a buffer, as a share reads them.
#[derive(Debug)]
pub(crate) struct Rows<'a, T> {
    values: &'a [T],
    cols: usize,
}

impl<T> Clone for Rows<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
    pub(crate) fn row(self, row: usize) -> &'a [T] {
        &self.values[row * self.cols..][..self.cols]
    }
}

// SAFETY: threads get at the elements only through `read`, `rows_mut` and `columns_mut`, which hand
// out disjoint parts for writing and keep readers and writers in different phases (see there).
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// An empty buffer for passes of `pool`.
    pub(crate) fn new(pool: &Pool) -> Self {
        let notes = (0..pool.threads()).map(|_| Note::default()).collect();
        Self {
            pool: pool.id,
            cells: Box::default(),
            rows: 0,
            cols: 0,
            notes,
        }
    }

    /// Gives the buffer its shape; what it held is undefined afterwards, but initialised. Allocates
    /// only when it grows.
    pub(crate) fn reshape(&mut self, rows: usize, cols: usize, new: impl Fn() -> T) {
        if rows * cols > self.cells.len() {
            self.cells = (0..rows * cols).map(|_| UnsafeCell::new(new())).collect();
        }
        (self.rows, self.cols) = (rows, cols);
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// All elements, between passes.
    pub(crate) fn get_mut(&mut self) -> &mut [T] {
        let cells = std::ptr::from_mut(&mut self.cells[..self.rows * self.cols]);
        // SAFETY: `UnsafeCell<T>` has the layout of `T`, and the buffer is borrowed alone.
        unsafe { &mut *(cells as *mut [T]) }
    }

    /// Gives back what was taken, so that it need not be allocated again.
    pub(crate) fn give(&mut self, values: Vec<T>) {
        let values = Box::into_raw(values.into_boxed_slice());
        // SAFETY: `UnsafeCell<T>` has the layout of `T`, and the box is ours alone.
        self.cells = unsafe { Box::from_raw(values as *mut [UnsafeCell<T>]) };
        (self.rows, self.cols) = (0, 0);
    }

    /// Takes the elements out, between passes.
    pub(crate) fn take(&mut self) -> Vec<T> {
        let cells = std::mem::take(&mut self.cells);
        // SAFETY: `UnsafeCell<T>` has the layout of `T`, and the box is ours alone.
        let values = unsafe { Box::from_raw(Box::into_raw(cells) as *mut [T]) };
        let mut values = values.into_vec();
        values.truncate(self.rows * self.cols);
        (self.rows, self.cols) = (0, 0);
        values
    }

    /// All elements.
    ///
    /// # Panics
    /// If a share writes the buffer in the same phase.
    pub(crate) fn read<'a>(&'a self, share: &'a Share) -> &'a [T] {
        assert!(
            self.pool == share.pool,
            "a buffer is used by the pool that it was made for"
        );
        self.notes[share.index]
            .read
            .store(share.phase, Ordering::SeqCst);
        for note in &self.notes[..share.count] {
            let written = note.written.load(Ordering::SeqCst) / 2;
            assert!(
                written != share.phase,
                "a buffer is read in the phase that writes it"
            );
        }
        let cells = &self.cells[..self.rows * self.cols];
        // SAFETY: No share writes in this phase: a writer notes the phase before it looks for
        // readers, as we noted it before we looked for writers; all four are sequentially
        // consistent, so one of the two sees the other and panics. Writes of earlier phases
        // happened before the share was claimed. The slice borrows the share and so ends before the
        // phase does. `UnsafeCell<T>` has the layout of `T`.
        unsafe { &*(std::ptr::from_ref(cells) as *const [T]) }
    }

    /// All rows. Asking once serves a whole share: it costs more than a row of a few values.
    ///
    /// # Panics
    /// As [`Shared::read`].
    pub(crate) fn rows<'a>(&'a self, share: &'a Share) -> Rows<'a, T> {
        Rows {
            values: self.read(share),
            cols: self.cols,
        }
    }

    /// The elements of one row.
    ///
    /// # Panics
    /// As [`Shared::read`].
    pub(crate) fn row<'a>(&'a self, share: &'a Share, row: usize) -> &'a [T] {
        self.rows(share).row(row)
    }

    /// The share's rows, and their range.
    ///
    /// # Panics
    /// If a share reads the buffer in the same phase, or this one writes it twice.
    pub(crate) fn rows_mut<'a>(&'a self, share: &'a Share) -> (Range<usize>, &'a mut [T]) {
        self.first_rows_mut(share, self.rows)
    }

    /// The share's part of the first `rows`, and its range.
    ///
    /// # Panics
    /// As [`Shared::rows_mut`], if there are fewer rows, or if another share divides another number.
    #[expect(clippy::mut_from_ref, reason = "the claim keeps the parts apart")]
    pub(crate) fn first_rows_mut<'a>(
        &'a self,
        share: &'a Share,
        rows: usize,
    ) -> (Range<usize>, &'a mut [T]) {
        assert!(rows <= self.rows, "{rows} of {} rows", self.rows);
        self.claim(share, Split::Rows, rows);
        let rows = share.of(rows, 1);
        let cells = &self.cells[rows.start * self.cols..rows.end * self.cols];
        // SAFETY: `claim` excludes readers and a second call in this phase, and makes every writer
        // split the same number of rows: those of different shares are disjoint, and each share exists once. The
        // slice ends before the phase, as it borrows the share. `UnsafeCell<T>` has the layout of
        // `T`.
        let values = unsafe {
            std::slice::from_raw_parts_mut(cells.as_ptr().cast::<T>().cast_mut(), cells.len())
        };
        (rows, values)
    }

    /// Notes that this share writes in this phase.
    fn claim(&self, share: &Share, split: Split, extent: usize) {
        assert!(
            self.pool == share.pool,
            "a buffer is used by the pool that it was made for"
        );
        let note = share.phase * 2 + u64::from(split == Split::Columns);
        let own = &self.notes[share.index];
        own.extent.store(extent, Ordering::Relaxed);
        let before = own.written.swap(note, Ordering::SeqCst);
        assert!(
            before / 2 != share.phase,
            "a share writes a buffer twice in a phase"
        );
        for other in &self.notes[..share.count] {
            let read = other.read.load(Ordering::SeqCst);
            assert!(
                read != share.phase,
                "a buffer is written in the phase that reads it"
            );
            // Of two writers one sees the other's note, and so what it stored before.
            let written = other.written.load(Ordering::SeqCst);
            let alike = || written == note && other.extent.load(Ordering::Relaxed) == extent;
            assert!(
                written / 2 != share.phase || alike(),
                "a buffer is split in two ways in one phase"
            );
        }
    }
}

impl<T: bytemuck::Zeroable> Shared<T> {
    /// A buffer of zeros, if memory suffices. Its pages are taken from the system as they are first
    /// written.
    pub(crate) fn zeroed(pool: &Pool, rows: usize, cols: usize) -> Option<Self> {
        let length = rows.checked_mul(cols)?;
        length
            .checked_mul(size_of::<T>())
            .filter(|&bytes| bytes <= isize::MAX as usize)?;
        let zeros = bytemuck::try_zeroed_slice_box::<T>(length).ok()?;
        // SAFETY: `UnsafeCell<T>` has the layout of `T`, and the box is ours alone.
        let cells = unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [UnsafeCell<T>]) };
        Some(Self {
            cells,
            rows,
            cols,
            ..Self::new(pool)
        })
    }
}

impl Shared<f32> {
    /// The share's columns of all rows, and their range.
    ///
    /// # Panics
    /// As [`Shared::rows_mut`].
    pub(crate) fn columns_mut<'a>(&'a self, share: &'a Share) -> (Range<usize>, ColumnsMut<'a>) {
        self.first_columns_mut(share, self.cols)
    }

    /// The share's part of the first `cols` columns in all rows, and its range.
    ///
    /// # Panics
    /// As [`Shared::first_rows_mut`].
    pub(crate) fn first_columns_mut<'a>(
        &'a self,
        share: &'a Share,
        cols: usize,
    ) -> (Range<usize>, ColumnsMut<'a>) {
        assert!(cols <= self.cols, "{cols} of {} columns", self.cols);
        self.claim(share, Split::Columns, cols);
        let cols = share.of(cols, COLUMNS);
        let cells = &self.cells[..self.rows * self.cols];
        // SAFETY: as in `rows_mut`, with columns for rows. The elements lie inside `cells`.
        let columns = unsafe {
            let first = cells.as_ptr().cast::<f32>().cast_mut().add(cols.start);
            ColumnsMut::from_raw(first, self.rows, cols.len(), self.cols)
        };
        (cols, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Worker;
    use super::super::bell::SPIN;
    use super::*;

    fn pool() -> Pool {
        Pool::new(3).expect("three threads")
    }

    #[test]
    fn what_is_written_in_a_phase_is_read_in_the_next() {
        let pool = pool();
        let mut numbers = Shared::new(&pool);
        numbers.reshape(100, 2, || 0);
        let mut sums = Shared::new(&pool);
        for _ in 0..50 {
            sums.reshape(3, 1, || 0);
            pool.run(|mut worker| {
                worker.phase(|share| {
                    let (rows, part) = numbers.rows_mut(share);
                    for (row, values) in rows.zip(part.chunks_exact_mut(2)) {
                        values.fill(row);
                    }
                });
                worker.phase(|share| {
                    let sum = numbers.read(share).iter().sum();
                    sums.rows_mut(share).1.fill(sum);
                });
            });
            assert_eq!(sums.take(), [9900; 3]);
        }
    }

    #[test]
    fn columns_of_all_shares_make_the_whole() {
        let pool = pool();
        let mut matrix = Shared::new(&pool);
        matrix.reshape(2, 100, || 0.0);
        pool.run(|mut worker| {
            worker.phase(|share| {
                let (range, mut columns) = matrix.columns_mut(share);
                for row in 0..2 {
                    for (col, value) in range.clone().zip(columns.row(row)) {
                        *value += (100 * row + col) as f32;
                    }
                }
            });
        });
        let expected: Vec<_> = (0..200).map(|i| i as f32).collect();
        assert_eq!(matrix.take(), expected);
    }

    fn panics(pool: &Pool, work: impl Fn(&Share) + Sync) {
        let pass = |mut worker: Worker<'_>| {
            worker.phase(|_| ());
            worker.phase(&work);
            worker.phase(|_| ());
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(pass)));
        assert!(result.is_err(), "the pass is refused");
        pool.run(|mut worker| worker.phase(|_| ()));
    }

    #[test]
    fn a_pass_that_breaks_the_rules_panics_on_all_threads() {
        let pool = pool();
        let mut shared = Shared::new(&pool);
        shared.reshape(3, 64, || 0.0);
        panics(&pool, |share| {
            if share.is_first() {
                shared.read(share);
            } else {
                shared.rows_mut(share);
            }
        });
        panics(&pool, |share| {
            shared.rows_mut(share);
            shared.rows_mut(share);
        });
        panics(&pool, |share| {
            if share.is_first() {
                shared.rows_mut(share);
            } else {
                shared.columns_mut(share);
            }
        });
        panics(&pool, |share| {
            shared.first_rows_mut(share, 2 + usize::from(share.is_first()));
        });
        panics(&pool, |share| {
            shared.first_columns_mut(share, 63 + usize::from(share.is_first()));
        });
        panics(&pool, |share| {
            if share.index == 1 {
                std::thread::sleep(100 * SPIN);
                panic!("while the others sleep");
            }
        });
    }
}
