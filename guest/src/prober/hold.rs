//! Attempts that wait for the outside to look, or to dial in: until the prober's standard input ends.

use std::io::{self, Read as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whether the launcher has released what holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Release(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    released: Mutex<bool>,
    changed: Condvar,
}

impl Release {
    /// Watches standard input for its end, on a thread of its own.
    pub(crate) fn watch_input() -> io::Result<Self> {
        let release = Self::default();
        let watching = release.clone();
        std::thread::Builder::new().stack_size(super::STACK).spawn(move || {
            let mut nothing = [0; 64];
            while io::stdin().lock().read(&mut nothing).is_ok_and(|length| length > 0) {}
            *watching.lock() = true;
            watching.0.changed.notify_all();
        })?;
        Ok(release)
    }

    /// Whether it has been released.
    pub(crate) fn is_released(&self) -> bool {
        *self.lock()
    }

    /// Waits until it is released or `until` has come.
    pub(crate) fn wait(&self, until: Instant) {
        let mut released = self.lock();
        while !*released {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            let waited = self.0.changed.wait_timeout(released, left);
            released = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.released.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
