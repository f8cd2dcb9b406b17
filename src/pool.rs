//! The threads of a model, and the buffers that they share.
//!
//! A forward pass wakes the threads once. They walk through the layers together, in *phases*: within
//! a phase each thread writes its own part of some buffers and reads others; [`Worker::barrier`] ends
//! the phase for all. Waking a thread pool for each matrix instead costs milliseconds per token.
//!
//! [`Shared`] buffers make that safe without trust in the code of the pass. The part that a thread may
//! write follows from the buffer's shape and the thread's number alone, so parts never overlap; who
//! reads or writes a buffer notes the phase first and looks at the others' notes afterwards, so that
//! of two threads that would read and write the same buffer in one phase at least one panics instead.
//! A slice borrows the worker, and the barrier needs the worker alone, so no slice outlives its phase.
#![allow(
    unsafe_code,
    reason = "the one place where threads share memory that is written"
)]

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use gristmill_kernels::ColumnsMut;

use crate::{Error, Result};

/// Most threads that a model may be given.
pub(crate) const MAX_THREADS: usize = 256;

/// Looks at the barrier before a waiting thread gives way to others: some 70 us, longer than threads
/// of a pass that all run are apart.
const SPINS: u32 = 1_500;

/// Columns are handed out in multiples of this: the rows of a panel at the widest level.
const COLUMNS: usize = 32;

/// A private thread pool, entered once per pass.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Different for every pool of the process.
    id: u64,
    threads: rayon::ThreadPool,
    /// Held during a pass: two passes at once would wait for each other's threads for ever.
    phase: Mutex<u64>,
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Result<Pool> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("gristmill-{index}"))
            .build()
            .map_err(|error| Error::Argument {
                name: "threads",
                expected: "a number of threads that the system can start".to_owned(),
                found: format!("{threads}: {error}"),
            })?;
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Pool {
            id,
            threads,
            phase: Mutex::new(1),
        })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `pass` on every thread at the same time; all must pass the same barriers.
    pub(crate) fn run(&self, pass: impl Fn(Worker<'_>) + Sync) {
        // A pass that panicked has left its phase number behind; all that counts is that it grows.
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let barrier = Barrier::default();
        let last = AtomicU64::new(*phase);
        self.threads.broadcast(|context| {
            let worker = Worker {
                pool: self.id,
                index: context.index(),
                count: context.num_threads(),
                phase: *phase,
                last: &last,
                barrier: &barrier,
            };
            pass(worker);
        });
        *phase = last.into_inner() + 1;
    }
}

/// One thread within a pass.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    pool: u64,
    index: usize,
    count: usize,
    phase: u64,
    last: &'a AtomicU64,
    barrier: &'a Barrier,
}

impl Worker<'_> {
    /// The thread's number, below that of threads.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Ends the phase: returns when every thread has come here.
    pub(crate) fn barrier(&mut self) {
        self.phase += 1;
        self.barrier.wait(self.count);
    }

    /// This thread's share of `items`, in multiples of `granularity` but for the last one.
    pub(crate) fn share(&self, items: usize, granularity: usize) -> Range<usize> {
        let units = items.div_ceil(granularity);
        let edge = |index: usize| (units * index / self.count * granularity).min(items);
        edge(self.index)..edge(self.index + 1)
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.last.fetch_max(self.phase, Ordering::Relaxed);
        if std::thread::panicking() {
            self.barrier.broken.store(true, Ordering::Release);
        }
    }
}

/// Spins briefly, then yields, so that more threads than processors still make progress.
#[derive(Debug, Default)]
struct Barrier {
    arrived: AtomicUsize,
    generation: AtomicUsize,
    /// A thread panicked and will never arrive.
    broken: AtomicBool,
}

impl Barrier {
    fn wait(&self, count: usize) {
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.store(0, Ordering::Relaxed);
            self.generation.store(generation + 1, Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.generation.load(Ordering::Acquire) == generation {
            assert!(
                !self.broken.load(Ordering::Acquire),
                "another thread of the pass panicked"
            );
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// A row-major matrix `[rows, cols]` that the threads of a pass read and write by turns.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    /// The only pool whose threads may use it: passes of one pool never overlap.
    pool: u64,
    cells: Box<[UnsafeCell<T>]>,
    rows: usize,
    cols: usize,
    notes: Box<[Note]>,
}

/// The last phase in which a thread read and wrote a buffer. A cache line of its own per thread.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Note {
    read: AtomicU64,
    /// The phase times two, plus one where columns are written.
    written: AtomicU64,
}

/// How a buffer is divided between the threads that write it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    Rows,
    Columns,
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
    /// If a thread writes the buffer in the same phase.
    pub(crate) fn read<'a>(&'a self, worker: &'a Worker<'_>) -> &'a [T] {
        assert!(
            self.pool == worker.pool,
            "a buffer is used by the pool that it was made for"
        );
        self.notes[worker.index]
            .read
            .store(worker.phase, Ordering::SeqCst);
        for note in &self.notes[..worker.count] {
            let written = note.written.load(Ordering::SeqCst) / 2;
            assert!(
                written != worker.phase,
                "a buffer is read in the phase that writes it"
            );
        }
        let cells = &self.cells[..self.rows * self.cols];
        // SAFETY: No thread writes in this phase: a writer notes the phase before it looks for
        // readers, as we noted it before we looked for writers; all four are sequentially
        // consistent, so one of the two sees the other and panics. Writes of earlier phases
        // happened before the barrier. The slice borrows the worker and so ends before the next
        // barrier. `UnsafeCell<T>` has the layout of `T`.
        unsafe { &*(std::ptr::from_ref(cells) as *const [T]) }
    }

    /// The elements of one row.
    ///
    /// # Panics
    /// As [`Shared::read`].
    pub(crate) fn row<'a>(&'a self, worker: &'a Worker<'_>, row: usize) -> &'a [T] {
        &self.read(worker)[row * self.cols..][..self.cols]
    }

    /// This thread's rows, and their range.
    ///
    /// # Panics
    /// If a thread reads the buffer in the same phase, or it is written twice.
    #[expect(clippy::mut_from_ref, reason = "the claim keeps the parts apart")]
    pub(crate) fn rows_mut<'a>(&'a self, worker: &'a Worker<'_>) -> (Range<usize>, &'a mut [T]) {
        self.claim(worker, Split::Rows);
        let rows = worker.share(self.rows, 1);
        let cells = &self.cells[rows.start * self.cols..rows.end * self.cols];
        // SAFETY: `claim` excludes readers and a second call in this phase, and makes every writer
        // split by rows: the shares of different threads are disjoint. The slice ends before the
        // next barrier, as it borrows the worker. `UnsafeCell<T>` has the layout of `T`.
        let values = unsafe {
            std::slice::from_raw_parts_mut(cells.as_ptr().cast::<T>().cast_mut(), cells.len())
        };
        (rows, values)
    }

    /// Notes that this thread writes in this phase.
    fn claim(&self, worker: &Worker<'_>, split: Split) {
        assert!(
            self.pool == worker.pool,
            "a buffer is used by the pool that it was made for"
        );
        let note = worker.phase * 2 + u64::from(split == Split::Columns);
        let before = self.notes[worker.index]
            .written
            .swap(note, Ordering::SeqCst);
        assert!(
            before / 2 != worker.phase,
            "a thread writes a buffer twice in a phase"
        );
        for other in &self.notes[..worker.count] {
            let read = other.read.load(Ordering::SeqCst);
            assert!(
                read != worker.phase,
                "a buffer is written in the phase that reads it"
            );
            let written = other.written.load(Ordering::SeqCst);
            assert!(
                written / 2 != worker.phase || written == note,
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
    /// This thread's columns of all rows, and their range.
    ///
    /// # Panics
    /// As [`Shared::rows_mut`].
    pub(crate) fn columns_mut<'a>(
        &'a self,
        worker: &'a Worker<'_>,
    ) -> (Range<usize>, ColumnsMut<'a>) {
        self.claim(worker, Split::Columns);
        let cols = worker.share(self.cols, COLUMNS);
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
    use super::*;

    fn pool() -> Pool {
        Pool::new(3).expect("three threads")
    }

    #[test]
    fn shares_cover_everything_once() {
        for count in 1..6 {
            for (items, granularity) in [(0, 1), (1, 1), (7, 2), (100, 32), (33, 32)] {
                let mut next = 0;
                for index in 0..count {
                    let (last, barrier) = (AtomicU64::new(0), Barrier::default());
                    let worker = Worker {
                        pool: 0,
                        index,
                        count,
                        phase: 1,
                        last: &last,
                        barrier: &barrier,
                    };
                    let share = worker.share(items, granularity);
                    assert_eq!(share.start, next, "{items} by {granularity} over {count}");
                    next = share.end;
                }
                assert_eq!(next, items);
            }
        }
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
                let (rows, part) = numbers.rows_mut(&worker);
                for (row, values) in rows.zip(part.chunks_exact_mut(2)) {
                    values.fill(row);
                }
                worker.barrier();
                let sum = numbers.read(&worker).iter().sum();
                sums.rows_mut(&worker).1.fill(sum);
            });
            assert_eq!(sums.take(), [9900; 3]);
        }
    }

    #[test]
    fn columns_of_all_threads_make_the_whole() {
        let pool = pool();
        let mut matrix = Shared::new(&pool);
        matrix.reshape(2, 100, || 0.0);
        pool.run(|worker| {
            let (range, mut columns) = matrix.columns_mut(&worker);
            for row in 0..2 {
                for (col, value) in range.clone().zip(columns.row(row)) {
                    *value += (100 * row + col) as f32;
                }
            }
        });
        let expected: Vec<_> = (0..200).map(|i| i as f32).collect();
        assert_eq!(matrix.take(), expected);
    }

    fn panics(pool: &Pool, pass: impl Fn(Worker<'_>) + Sync) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(pass)));
        assert!(result.is_err(), "the pass is refused");
        pool.run(|mut worker| worker.barrier());
    }

    #[test]
    fn a_pass_that_breaks_the_rules_panics_on_all_threads() {
        let pool = pool();
        let mut shared = Shared::new(&pool);
        shared.reshape(3, 64, || 0.0);
        panics(&pool, |mut worker| {
            if worker.index() == 0 {
                shared.read(&worker);
            } else {
                shared.rows_mut(&worker);
            }
            worker.barrier();
            worker.barrier();
        });
        panics(&pool, |mut worker| {
            shared.rows_mut(&worker);
            shared.rows_mut(&worker);
            worker.barrier();
        });
        panics(&pool, |mut worker| {
            if worker.index() == 0 {
                shared.rows_mut(&worker);
            } else {
                shared.columns_mut(&worker);
            }
            worker.barrier();
            worker.barrier();
        });
    }

    #[test]
    fn more_threads_than_processors_still_finish() {
        let pool = Pool::new(8).expect("eight threads");
        pool.run(|mut worker| (0..100).for_each(|_| worker.barrier()));
    }
}
