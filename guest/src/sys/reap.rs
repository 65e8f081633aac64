//! Which children have ended.

use nix::errno::Errno;
use nix::unistd::Pid;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With this code.
    Code(i32),
    /// Killed by the signal with this number.
    Signal(i32),
}

/// Reaps one child that has ended, if there is one; `ECHILD`: there are no children at all.
///
/// `nix::sys::wait` knows no real-time signal: it would reap a child that one has killed without telling which.
pub(crate) fn next() -> nix::Result<Option<(Pid, Exit)>> {
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one int, to where the pointer points.
        match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
            Ok(0) => return Ok(None),
            Ok(pid) if libc::WIFSIGNALED(status) => {
                return Ok(Some((Pid::from_raw(pid), Exit::Signal(libc::WTERMSIG(status)))));
            }
            Ok(pid) => {
                return Ok(Some((Pid::from_raw(pid), Exit::Code(libc::WEXITSTATUS(status)))));
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
