//! The init's children that are nobody's daemon: orphans, adopted when their parents died.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getpid};

/// The most that is read of the list of children, in bytes: some 8,000 of them.
const MAX_LIST: u64 = 64 * 1024;

/// The children, zombies included. None are known where /proc is missing or another PID namespace's, whose numbers
/// mean other processes here.
pub(crate) fn children() -> Vec<Pid> {
    let ours =
        std::fs::read_link("/proc/self").is_ok_and(|link| link == Path::new(&getpid().to_string()));
    let mut list = String::new();
    if ours {
        // proc_pid_task(5); the kernel may lack it (CONFIG_PROC_CHILDREN).
        let _ = File::open("/proc/thread-self/children")
            .and_then(|file| file.take(MAX_LIST).read_to_string(&mut list));
    }
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// Sends SIGTERM to every orphan not yet in `told`, but not to the members of `groups`, which had theirs with their
/// group: a second one makes many programs quit at once.
pub(crate) fn terminate(groups: &[Pid], told: &mut Vec<Pid>) {
    for child in children() {
        let had_it = told.contains(&child)
            || getpgid(Some(child)).is_ok_and(|group| groups.contains(&group));
        if !had_it {
            // A child is ours until we reap it, so its number cannot be another's.
            let _ = kill(child, Signal::SIGTERM);
            told.push(child);
        }
    }
}

/// Sends SIGKILL to every child, and as PID 1 to everything.
pub(crate) fn kill_all() {
    if getpid() == Pid::from_raw(1) {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
    for child in children() {
        let _ = kill(child, Signal::SIGKILL);
    }
}
