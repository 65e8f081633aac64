//! Ended children, by `waitid(2)`.
//!
//! Not `nix`'s wrapper: a child killed by a real-time signal is an error there, and one that is only looked at
//! (`WNOWAIT`) would be found again and again.

use std::mem::MaybeUninit;

use claude_bottle_protocol::session::End;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// What [`next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This child has ended. It stays a zombie, and its number its own, until [`reap`].
    Ended(Pid, End),
    /// There are children, and all of them run.
    AllRun,
    /// There are no children.
    None,
}

/// Gives SIGCHLD its default meaning. Whoever starts a program with SIGCHLD ignored makes the kernel reap its
/// children unseen: no signal comes, and how they ended is lost.
pub(crate) fn report_children() -> Result<(), Errno> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, so no code of ours runs in signal context; the old action is not used.
    unsafe { sigaction(Signal::SIGCHLD, &default) }.map(drop)
}

/// The next ended child, left as a zombie.
pub(crate) fn next() -> Result<Next, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a valid place for one `siginfo_t`; nothing else is written.
    let outcome = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) };
    match Errno::result(outcome) {
        Ok(_) => {}
        Err(Errno::ECHILD) => return Ok(Next::None),
        Err(errno) => return Err(errno),
    }
    // SAFETY: all-zero bytes are a valid `siginfo_t`, and `waitid` wrote nothing but a valid one over them.
    let info = unsafe { info.assume_init() };
    // SAFETY: `waitid` fills the members of SIGCHLD, or leaves them 0 when no child has ended (waitid(2)).
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(Next::AllRun);
    }
    let end =
        if info.si_code == libc::CLD_EXITED { End::Code(status) } else { End::Signal(status) };
    Ok(Next::Ended(Pid::from_raw(pid), end))
}

/// Lets go of a child that [`next`] found.
pub(crate) fn reap(pid: Pid) {
    // An error can only be the one about real-time signals, and the child is reaped all the same.
    let _ = waitpid(pid, None);
}
