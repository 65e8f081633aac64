//! `fork(2)` for the roles that are single-threaded.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, Pid, fork};

/// Starts `child` in a process of its own, with no signal blocked, and returns that process's id.
///
/// Only for single-threaded roles: the child goes on running ordinary code, which after `fork` in a process with
/// several threads could meet a lock that nobody will ever release.
pub(crate) fn run(child: impl FnOnce() -> ExitCode) -> nix::Result<Pid> {
    // SAFETY: the callers (helper, session, init) have one thread, so no lock is held by another one, and the
    // child may do whatever its parent could.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
            let code = child();
            exit(code)
        }
    }
}

/// Ends the process with `code`, which std only lets `main` do.
fn exit(code: ExitCode) -> ! {
    // `ExitCode` does not tell its number; it can be compared, though.
    let number = (0..=u8::MAX).find(|number| ExitCode::from(*number) == code);
    std::process::exit(i32::from(number.unwrap_or(1)))
}
