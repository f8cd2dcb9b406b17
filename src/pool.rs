//! The threads of a model, and the buffers that they share.
//!
//! A forward pass wakes the threads once. They walk through the layers together, in *phases*: a phase
//! is cut into as many shares as there are threads; a share writes its own part of some buffers and
//! reads others; the next phase begins when all shares are done ([`Worker::phase`]). Waking a thread
//! pool for each matrix instead costs milliseconds per token.
//!
//! Each thread does the share of its own number first, but what it has not begun when another thread
//! is through, that one does. So a thread that the system lets wait, as other programs run or as there
//! are more threads than processors, delays only the share that it is in the middle of.
//!
//! [`Shared`] buffers make that safe without trust in the code of the pass. The part that a share may
//! write follows from the buffer's shape and the share's number alone, so parts never overlap; who
//! reads or writes a buffer notes the phase first and looks at the others' notes afterwards, so that
//! of two shares that would read and write the same buffer in one phase at least one panics instead.
//! A slice borrows the share, which ends with the work on it, so no slice outlives its phase.
#![allow(
    unsafe_code,
    reason = "the one place where threads share memory that is written"
)]

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gristmill_kernels::ColumnsMut;

use crate::{Error, Result};

/// Most threads that a model may be given.
pub(crate) const MAX_THREADS: usize = 256;

/// How long a thread looks for the end of a phase before it sleeps: longer than threads that all run
/// are apart in a pass of one token (with 10 us a third of the speed was lost), and about as long as
/// it takes to wake one.
const SPIN: Duration = Duration::from_micros(50);

/// Columns are handed out in multiples of this: the rows of a panel at the widest level.
const COLUMNS: usize = 32;

/// A private thread pool, entered once per pass.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Different for every pool of the process.
    id: u64,
    /// One less than the threads of a pass: the thread that asks for a pass takes part.
    others: Option<rayon::ThreadPool>,
    /// One for each share of a phase.
    claims: Box<[Claim]>,
    /// The number of the next phase. Held during a pass: two passes at once would mix up their phases.
    next_phase: Mutex<u64>,
}

/// The last phase in which somebody did this share. A cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Claim(AtomicU64);

impl Pool {
    pub(crate) fn new(threads: usize) -> Result<Pool> {
        let others = (threads > 1).then(|| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads - 1)
                .thread_name(|index| format!("gristmill-{}", index + 1))
                .build()
        });
        let others = others.transpose().map_err(|error| Error::Argument {
            name: "threads",
            expected: "a number of threads that the system can start".to_owned(),
            found: format!("{threads}: {error}"),
        })?;
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Ok(Pool {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            others,
            claims: (0..threads).map(|_| Claim::default()).collect(),
            next_phase: Mutex::new(1),
        })
    }

    pub(crate) fn threads(&self) -> usize {
        self.claims.len()
    }

    /// Runs `pass` on every thread; all must go through the same phases, but one that finds that the
    /// pass is to end may leave earlier than others do.
    pub(crate) fn run(&self, pass: impl Fn(Worker<'_>) + Sync) {
        let next_phase = self.next_phase.lock();
        let mut next_phase = next_phase.unwrap_or_else(PoisonError::into_inner);
        let first = *next_phase;
        let state = PassState::new(self, &mut next_phase);
        let start = |thread| {
            pass(Worker {
                state: &state,
                thread,
                phase: first,
            });
        };
        match &self.others {
            None => start(0),
            Some(others) => others.in_place_scope(|scope| {
                scope.spawn_broadcast(|_, context| start(context.index() + 1));
                start(0);
            }),
        }
    }
}

/// What the threads of a pass tell each other.
#[derive(Debug)]
struct PassState<'a> {
    pool: &'a Pool,
    /// The phase that is being done.
    phase: AtomicU64,
    /// Shares of it that are done.
    done: AtomicUsize,
    /// A thread panicked, and its share will never be done.
    broken: AtomicBool,
    sleepers: AtomicUsize,
    /// Held by who is about to sleep, and by who is about to wake.
    sleep: Mutex<()>,
    wake: Condvar,
    next_phase: &'a mut u64,
}

impl<'a> PassState<'a> {
    fn new(pool: &'a Pool, next_phase: &'a mut u64) -> Self {
        Self {
            pool,
            phase: AtomicU64::new(*next_phase),
            done: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            next_phase,
        }
    }

    /// Makes a share of a phase the caller's to do, unless it is or was another's.
    fn claim(&self, share: usize, phase: u64) -> bool {
        let claim = &self.pool.claims[share].0;
        claim.load(Ordering::Relaxed) < phase && claim.fetch_max(phase, Ordering::AcqRel) < phase
    }

    /// Notes that a share is done; the last one ends the phase.
    fn finish(&self, phase: u64) {
        if self.done.fetch_add(1, Ordering::AcqRel) + 1 == self.pool.threads() {
            self.done.store(0, Ordering::Relaxed);
            self.phase.store(phase + 1, Ordering::SeqCst);
            self.wake_all();
        }
    }

    /// Whether a phase has ended.
    ///
    /// # Panics
    /// If it never will.
    fn is_over(&self, phase: u64) -> bool {
        let is_over = self.phase.load(Ordering::SeqCst) > phase;
        assert!(
            is_over || !self.broken.load(Ordering::SeqCst),
            "another thread of the pass panicked"
        );
        is_over
    }

    /// Returns when the phase has ended. Spins at first; then sleeps, so that a thread that has no
    /// processor gets this one.
    fn wait(&self, phase: u64) {
        let mut start = None;
        loop {
            for _ in 0..32 {
                if self.is_over(phase) {
                    return;
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            if now - *start.get_or_insert(now) >= SPIN {
                break;
            }
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_over(phase) {
            let woken = self.wake.wait(sleep);
            sleep = woken.unwrap_or_else(PoisonError::into_inner);
        }
        drop(sleep);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake_all(&self) {
        // Whoever is counted after this look has seen what there is to be told before it sleeps.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }
}

impl Drop for PassState<'_> {
    fn drop(&mut self) {
        // Beyond a phase that was begun but not ended, as a thread panicked.
        *self.next_phase = *self.phase.get_mut() + 1;
    }
}

/// One thread within a pass.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    state: &'a PassState<'a>,
    thread: usize,
    phase: u64,
}

impl Worker<'_> {
    /// The thread's number, below that of threads.
    pub(crate) fn thread(&self) -> usize {
        self.thread
    }

    /// One phase of the pass: returns when all shares are done, by whatever threads. Each thread begins
    /// with the share of its number and goes on with those that nobody has begun, so that a phase does
    /// not wait for threads that have no processor, and a thread that comes late finds nothing to do.
    pub(crate) fn phase(&mut self, mut work: impl FnMut(&Share)) {
        let (state, phase) = (self.state, self.phase);
        let count = state.pool.threads();
        for index in (self.thread..count).chain(0..self.thread) {
            if state.claim(index, phase) {
                work(&Share {
                    pool: state.pool.id,
                    index,
                    count,
                    phase,
                });
                state.finish(phase);
            }
        }
        state.wait(phase);
        self.phase += 1;
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state.broken.store(true, Ordering::SeqCst);
            self.state.wake_all();
        }
    }
}

/// One of the equal parts of a phase, as many as there are threads. A share is done once, by one
/// thread.
#[derive(Debug)]
pub(crate) struct Share {
    pool: u64,
    index: usize,
    count: usize,
    phase: u64,
}

impl Share {
    pub(crate) fn is_first(&self) -> bool {
        self.index == 0
    }

    /// This share of `items`, in multiples of `granularity` but for the last one.
    pub(crate) fn of(&self, items: usize, granularity: usize) -> Range<usize> {
        let units = items.div_ceil(granularity);
        let edge = |index: usize| (units * index / self.count * granularity).min(items);
        edge(self.index)..edge(self.index + 1)
    }
}

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
}

/// How a buffer is divided between the shares that write it.
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

    /// The elements of one row.
    ///
    /// # Panics
    /// As [`Shared::read`].
    pub(crate) fn row<'a>(&'a self, share: &'a Share, row: usize) -> &'a [T] {
        &self.read(share)[row * self.cols..][..self.cols]
    }

    /// The share's rows, and their range.
    ///
    /// # Panics
    /// If a share reads the buffer in the same phase, or this one writes it twice.
    #[expect(clippy::mut_from_ref, reason = "the claim keeps the parts apart")]
    pub(crate) fn rows_mut<'a>(&'a self, share: &'a Share) -> (Range<usize>, &'a mut [T]) {
        self.claim(share, Split::Rows);
        let rows = share.of(self.rows, 1);
        let cells = &self.cells[rows.start * self.cols..rows.end * self.cols];
        // SAFETY: `claim` excludes readers and a second call in this phase, and makes every writer
        // split by rows: the rows of different shares are disjoint, and each share exists once. The
        // slice ends before the phase, as it borrows the share. `UnsafeCell<T>` has the layout of
        // `T`.
        let values = unsafe {
            std::slice::from_raw_parts_mut(cells.as_ptr().cast::<T>().cast_mut(), cells.len())
        };
        (rows, values)
    }

    /// Notes that this share writes in this phase.
    fn claim(&self, share: &Share, split: Split) {
        assert!(
            self.pool == share.pool,
            "a buffer is used by the pool that it was made for"
        );
        let note = share.phase * 2 + u64::from(split == Split::Columns);
        let before = self.notes[share.index].written.swap(note, Ordering::SeqCst);
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
            let written = other.written.load(Ordering::SeqCst);
            assert!(
                written / 2 != share.phase || written == note,
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
        self.claim(share, Split::Columns);
        let cols = share.of(self.cols, COLUMNS);
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
                    let share = Share {
                        pool: 0,
                        index,
                        count,
                        phase: 1,
                    };
                    let range = share.of(items, granularity);
                    assert_eq!(range.start, next, "{items} by {granularity} over {count}");
                    next = range.end;
                }
                assert_eq!(next, items);
            }
        }
    }

    #[test]
    fn every_share_of_every_phase_is_done_once() {
        let pool = Pool::new(8).expect("eight threads");
        for phases in [0, 1, 100] {
            let times: Vec<_> = (0..8 * phases).map(|_| AtomicUsize::new(0)).collect();
            pool.run(|mut worker| {
                for phase in times.chunks(8) {
                    worker.phase(|share| {
                        phase[share.index].fetch_add(1, Ordering::Relaxed);
                    });
                    let done = phase.iter().all(|times| times.load(Ordering::Relaxed) == 1);
                    assert!(done, "a phase ends when all shares are done");
                }
            });
            assert!(times.into_iter().all(|times| times.into_inner() == 1));
        }
    }

    #[test]
    fn phases_do_not_wait_for_a_thread_that_is_late() {
        let pool = pool();
        for late in 0..3 {
            let (over, wake) = (Mutex::new(false), Condvar::new());
            pool.run(|mut worker| {
                if worker.thread() == late {
                    let over = over.lock().unwrap_or_else(PoisonError::into_inner);
                    let over = wake.wait_while(over, |over| !*over);
                    assert!(*over.expect("nobody panics"));
                }
                for _ in 0..100 {
                    worker.phase(|share| assert!(share.index < 3));
                }
                *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
                wake.notify_all();
            });
        }
    }

    #[test]
    fn threads_that_sleep_are_woken_by_the_end_of_the_phase() {
        let pool = pool();
        let slow = |share: &Share| {
            if share.is_first() {
                std::thread::sleep(100 * SPIN);
            }
        };
        pool.run(|mut worker| (0..10).for_each(|_| worker.phase(slow)));
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
            if share.index == 1 {
                std::thread::sleep(100 * SPIN);
                panic!("while the others sleep");
            }
        });
    }
}
