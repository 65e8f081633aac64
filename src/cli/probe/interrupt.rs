//! Ctrl-C: the first cleans up, the second ends the program at once. The kernel ends what the launcher made either way.

use std::future::Future;

use async_trait::async_trait;

use crate::backend::Arena;
use crate::probe::run::BeforeTeardown;

/// The exit code of an interrupted run: 128 + SIGINT.
pub(super) const CODE: u8 = 130;

/// Runs `work` to its end; none if a signal came first. Dropping `work` is what cleans up.
pub(super) async fn or_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = signal() => {
            eprintln!("interrupted: cleaning up (once more: at once)");
            tokio::spawn(async {
                signal().await;
                std::process::exit(i32::from(CODE));
            });
            None
        }
    }
}

/// Waits for SIGINT, SIGTERM or SIGHUP.
pub(super) async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            // Without a handler the signal ends the program, and the kernel what it made.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

/// Keeps bottle and lab until a signal comes, if that is wanted.
pub(super) struct Keep {
    /// `--keep`.
    pub(super) wanted: bool,
}

#[async_trait]
impl BeforeTeardown for Keep {
    async fn hold(&self, arena: &dyn Arena) {
        if self.wanted {
            eprintln!("kept {}; {}", arena.bottle().name(), arena.way_in());
            eprintln!("Ctrl-C tears it down");
            signal().await;
        }
    }
}
