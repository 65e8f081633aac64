//! How much waits to be read.

use std::os::fd::{AsRawFd, BorrowedFd};

nix::ioctl_read_bad!(fionread, libc::FIONREAD, libc::c_int);

/// How many bytes can be read from this pipe or terminal at once; 0 where that cannot be told.
pub(crate) fn bytes(fd: BorrowedFd<'_>) -> usize {
    let mut count = 0;
    // SAFETY: FIONREAD writes one int, to where the pointer points.
    let asked = unsafe { fionread(fd.as_raw_fd(), &raw mut count) };
    asked.ok().and_then(|_| usize::try_from(count).ok()).unwrap_or(0)
}
