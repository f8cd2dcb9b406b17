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

mod bell;
mod crew;
mod shared;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use self::bell::Bell;
use self::crew::Crew;
pub(crate) use self::shared::{Rows, Shared};
use crate::{Error, Result};

/// Most threads that a model may be given.
pub(crate) const MAX_THREADS: usize = 256;

/// A private thread pool, entered once per pass.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Different for every pool of the process.
    id: u64,
    /// One less than the threads of a pass: the thread that asks for a pass takes part.
    others: Crew,
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
    /// A pool of at least one thread.
    pub(crate) fn new(threads: usize) -> Result<Pool> {
        let others = Crew::new(threads - 1).map_err(|error| Error::Argument {
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

    /// Runs `pass` here, and on every other thread that comes before it is over here. All go through
    /// the same phases, but one that finds that the pass is to end may leave earlier than others do.
    pub(crate) fn run(&self, pass: impl Fn(Worker<'_>) + Sync) {
        let next_phase = self.next_phase.lock();
        let mut next_phase = next_phase.unwrap_or_else(PoisonError::into_inner);
        let first = *next_phase;
        let state = &PassState::new(self, &mut next_phase);
        self.others.run(&|thread| {
            pass(Worker {
                state,
                thread,
                phase: first,
            });
        });
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
    /// Rung at the end of each phase.
    bell: Bell,
    next_phase: &'a mut u64,
}

impl<'a> PassState<'a> {
    fn new(pool: &'a Pool, next_phase: &'a mut u64) -> Self {
        Self {
            pool,
            phase: AtomicU64::new(*next_phase),
            done: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            bell: Bell::default(),
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
            self.bell.ring();
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
        state.bell.wait_until(|| state.is_over(phase));
        self.phase += 1;
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state.broken.store(true, Ordering::SeqCst);
            self.state.bell.ring();
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

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::time::{Duration, Instant};

    use super::bell::SPIN;
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

    /// The figures of `docs/performance.md`.
    #[test]
    #[ignore = "prints times: cargo test --release --lib overhead -- --ignored --nocapture"]
    fn overhead() {
        const ROUNDS: u32 = 10_000;
        let pool = Pool::new(2).expect("two threads");
        let busy = |time: Duration| {
            let start = Instant::now();
            while start.elapsed() < time {
                std::hint::spin_loop();
            }
        };
        for pause in [0, 20, 200, 2000].map(Duration::from_micros) {
            let rounds = if pause.is_zero() { ROUNDS } else { ROUNDS / 20 };
            let mut passes = Duration::ZERO;
            for _ in 0..rounds {
                busy(pause);
                let start = Instant::now();
                pool.run(|mut worker| worker.phase(|_| ()));
                passes += start.elapsed();
            }
            println!("pass after {pause:?}: {:?}", passes / rounds);
        }
        for work in [0, 5, 50].map(Duration::from_micros) {
            let start = Instant::now();
            pool.run(|mut worker| (0..ROUNDS).for_each(|_| worker.phase(|_| busy(work))));
            println!(
                "phase with {work:?} of work: {:?}",
                start.elapsed() / ROUNDS
            );
        }
    }
}
