//! The runtime that everything asynchronous runs on.

use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::thread;

use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

/// Threads of the runtime's own. The work is waiting; the second one looks after signals while the first is busy.
const WORKERS: usize = 2;
/// Threads that a run starts besides: the one that starts processes, one that packs files or shows progress.
const OTHERS: usize = 2;
/// Descriptors that a run has open at a time: a lab's streams, sockets on the real loopback, the runtime's own.
const DESCRIPTORS: usize = 48;

/// Why there is no runtime.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// Too few descriptors are left to this process.
    #[error("a run needs {DESCRIPTORS} more open files than this process may have (see ulimit -n)")]
    Descriptors(#[source] io::Error),
    /// Too few threads are left to this user.
    #[error("a run needs more threads than this user may have (see ulimit -u)")]
    Threads(#[source] io::Error),
    /// The runtime does not start.
    #[error("cannot start the runtime")]
    Start(#[source] io::Error),
}

/// Makes a runtime.
///
/// Where a limit is too low for one the runtime would panic, at once or in the middle of a run; this function takes
/// what a run needs for a moment, and tells what is missing.
pub fn make() -> Result<Runtime, RuntimeError> {
    try_descriptors().map_err(RuntimeError::Descriptors)?;
    try_threads().map_err(RuntimeError::Threads)?;
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(WORKERS).enable_all().build().map_err(RuntimeError::Start)
}

fn try_descriptors() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    let all: io::Result<Vec<File>> = (1..DESCRIPTORS).map(|_| null.try_clone()).collect();
    all.map(drop)
}

/// Threads that all live at the same time.
fn try_threads() -> io::Result<()> {
    thread::scope(|scope| {
        let mut living = Vec::new();
        for _ in 0..WORKERS + OTHERS {
            // Each ends when the other end of its channel goes.
            let (life, end) = mpsc::channel::<()>();
            thread::Builder::new().spawn_scoped(scope, move || end.recv())?;
            living.push(life);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_run_here() {
        let runtime = make().unwrap();
        assert_eq!(runtime.block_on(runtime.spawn(async { 7 })).unwrap(), 7);
    }
}
