//! Threads that take part in jobs of another thread.
#![allow(
    unsafe_code,
    reason = "a job is lent to threads that live longer than it"
)]

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::bell::Bell;

/// What each thread is to do, given its number.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// Some threads, numbered from 1: 0 is whoever has a job. They end with the crew.
#[derive(Debug)]
pub(super) struct Crew {
    post: Arc<Post>,
    threads: Vec<JoinHandle<()>>,
}

/// Where a job is to be found.
#[derive(Default)]
struct Post {
    job: Mutex<Option<&'static Job<'static>>>,
    /// Jobs that there were, with this one.
    jobs: AtomicU64,
    /// The crew ends.
    closed: AtomicBool,
    called: Bell,
    /// Threads that have taken the job and not done it yet. Grows under the lock of `job` only.
    busy: AtomicUsize,
    left: Bell,
    /// Of a thread that panicked.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Crew {
    /// # Errors
    /// If the system starts no more threads.
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        let mut crew = Self {
            post: Arc::default(),
            threads: Vec::new(),
        };
        for number in 1..=threads {
            let post = Arc::clone(&crew.post);
            let thread = Builder::new().name(format!("gristmill-{number}"));
            crew.threads.push(thread.spawn(move || post.serve(number))?);
        }
        Ok(crew)
    }

    /// Does the job here, with number 0, and on every other thread that comes before it is done
    /// here. Jobs of several callers must not overlap.
    ///
    /// # Panics
    /// If the job does, on any thread.
    pub(super) fn run(&self, job: &Job<'_>) {
        // SAFETY: Only the lifetime changes. Threads take the job from `post.job` alone, and count
        // themselves in `busy` before they let go of its lock. Below, the job is taken away and then
        // nobody is counted any more, before this function returns, and so while `job` is borrowed.
        // It does not unwind before, since what the job does here is caught.
        let lent = unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) };
        let post = &*self.post;
        *lock(&post.job) = Some(lent);
        post.jobs.fetch_add(1, Ordering::SeqCst);
        post.called.ring();
        let here = catch_unwind(AssertUnwindSafe(|| job(0)));
        *lock(&post.job) = None;
        let is_over = || post.busy.load(Ordering::SeqCst) == 0;
        post.left.wait_until(is_over);
        let elsewhere = lock(&post.panic).take();
        if let Some(panic) = here.err().or(elsewhere) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.post.closed.store(true, Ordering::SeqCst);
        self.post.called.ring();
        for thread in self.threads.drain(..) {
            // Panics are caught, and told to whom the job is.
            let _ = thread.join();
        }
    }
}

impl Post {
    /// The life of a thread.
    fn serve(&self, number: usize) {
        let mut seen = 0;
        loop {
            self.called.wait_until(|| {
                self.jobs.load(Ordering::SeqCst) != seen || self.closed.load(Ordering::SeqCst)
            });
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            let Some(job) = self.take(&mut seen) else {
                continue;
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(number))) {
                lock(&self.panic).get_or_insert(panic);
            }
            self.busy.fetch_sub(1, Ordering::SeqCst);
            self.left.ring();
        }
    }

    /// The job, unless it is over already; it counts as seen.
    fn take(&self, seen: &mut u64) -> Option<&'static Job<'static>> {
        let job = lock(&self.job);
        *seen = self.jobs.load(Ordering::SeqCst);
        let job = (*job)?;
        self.busy.fetch_add(1, Ordering::SeqCst);
        Some(job)
    }
}

impl std::fmt::Debug for Post {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Post").finish_non_exhaustive()
    }
}

/// No lock is held where anything could panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
