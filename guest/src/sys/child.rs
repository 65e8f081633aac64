//! What a started command does between `fork` and `exec`.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpid, getppid, setsid};

/// Prepares `command` to run as the head of a process group of its own, with no signal blocked, and to be killed
/// when the calling process dies.
///
/// With `terminal`, it becomes the head of a session instead, whose controlling terminal is its standard input.
pub(crate) fn prepare(command: &mut Command, terminal: bool) {
    if !terminal {
        command.process_group(0);
    }
    let parent = getpid();
    // SAFETY: the closure makes nothing but system calls: it neither allocates nor takes a lock that another
    // thread could have held during the fork.
    unsafe { command.pre_exec(move || settle(parent, terminal)) };
}

fn settle(parent: Pid, terminal: bool) -> io::Result<()> {
    // std hands the parent's mask on, and the parent has SIGCHLD blocked.
    SigSet::empty().thread_set_mask()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        // It died before the line above.
        return Err(nix::Error::ESRCH.into());
    }
    if terminal {
        setsid()?;
        // SAFETY: takes a number, no pointer; 0 is the terminal by now.
        nix::Error::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
    }
    Ok(())
}

/// Keeps every descriptor but the standard ones and the `left_open` ones that follow from the commands: whoever
/// started this process may have left some open. Kernels before 5.11 and filters that do not know the call leave them as they are.
pub(crate) fn keep_descriptors(left_open: usize) {
    let first = u32::try_from(left_open).map_or(u32::MAX, |left_open| left_open.saturating_add(3));
    // SAFETY: takes numbers, no pointer, and changes nothing but the close-on-exec flags.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}
