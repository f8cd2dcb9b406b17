//! Waiting for what another thread does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread looks before it sleeps: longer than threads that all run are apart in a pass of
/// one token (with 10 us a third of the speed was lost), and about as long as it takes to wake one.
pub(super) const SPIN: Duration = Duration::from_micros(50);

/// Threads that wait for something, and sleep if it takes longer.
#[derive(Debug, Default)]
pub(super) struct Bell {
    sleepers: AtomicUsize,
    /// Held by who is about to sleep, and by who is about to wake.
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Bell {
    /// Returns when `condition` holds. Whoever makes it hold must do so by sequentially consistent
    /// writes of what it reads, which it reads the same way, and then [`ring`](Self::ring).
    ///
    /// Spins at first; then sleeps, so that a thread that has no processor gets this one.
    pub(super) fn wait_until(&self, condition: impl Fn() -> bool) {
        let mut start = None;
        loop {
            for _ in 0..32 {
                if condition() {
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
        while !condition() {
            let woken = self.wake.wait(sleep);
            sleep = woken.unwrap_or_else(PoisonError::into_inner);
        }
        drop(sleep);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Makes all that wait look again.
    pub(super) fn ring(&self) {
        // Whoever is counted after this look sees what there is to see before it sleeps.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }
}
