//! Processes that left their command's process group.

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpid};
use std::os::fd::AsFd;

use crate::sys::reap;

/// How often it is tried, and how long each try waits for a child's end, in milliseconds.
const TRIES: u32 = 20;
const WAIT: u8 = 50;

/// Ends every descendant. As their subreaper, this process inherits those whose parents go, so that each turn
/// meets the next generation. PID 1 has nothing to do: the kernel ends its namespace with it.
pub(super) fn end(children: &SignalFd) {
    if getpid().as_raw() == 1 {
        return;
    }
    for _ in 0..TRIES {
        loop {
            match reap::next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        for child in own() {
            // It may have ended by itself.
            let _ = kill(child, Signal::SIGKILL);
        }
        let mut wait = [PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut wait, WAIT);
        while let Ok(Some(_)) = children.read_signal() {}
    }
}

/// The children of this process, as far as `/proc` tells (`CONFIG_PROC_CHILDREN`).
fn own() -> Vec<Pid> {
    let list = std::fs::read_to_string(format!("/proc/self/task/{}/children", getpid()));
    let list = list.unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
