//! Taking a descriptor of another process: `pidfd_open(2)`, `pidfd_getfd(2)`.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;

/// A copy of descriptor `number` of process `pid`.
pub(crate) fn take(pid: u32, number: i32) -> nix::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: plain numbers go in, a new descriptor or an error comes out.
    let opened = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let process = own(opened)?;
    // SAFETY: as above.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    own(Errno::result(taken)?)
}

fn own(descriptor: libc::c_long) -> nix::Result<OwnedFd> {
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for this process; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
