//! What a started command does between `fork` and `exec`.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Pid, getpid, getppid, setsid};

/// Prepares `command` to run as the head of a process group of its own, with no signal blocked or ignored, and to be killed
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
    // What is ignored stays ignored, and whoever started the launcher may have had it so (`nohup`, a shell's `&`): a command would
    // never hear of the person's Ctrl-C.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        // SAFETY: no handler is installed, so no code of ours runs in signal context. Two signals cannot be changed, which is
        // an error, and needs no change.
        let _ = unsafe { sigaction(signal, &default) };
    }
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
