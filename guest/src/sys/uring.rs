//! Sockets made by `io_uring`: the kernel makes them on behalf of a ring, and a filter on `socket(2)` sees nothing of it.

use std::os::fd::{FromRawFd as _, OwnedFd};

use io_uring::{IoUring, opcode};
use nix::errno::Errno;

/// A socket by way of `IORING_OP_SOCKET` (Linux 5.19); close-on-exec, not blocking.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> nix::Result<OwnedFd> {
    let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let mut ring = IoUring::new(2).map_err(failed)?;
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let entry = opcode::Socket::new(family, kind, protocol).build();
    // SAFETY: the operation takes numbers alone, no memory of ours.
    unsafe { ring.submission().push(&entry) }.map_err(|_| Errno::EAGAIN)?;
    ring.submit_and_wait(1).map_err(failed)?;
    let made = ring.completion().next().ok_or(Errno::EIO)?.result();
    if made < 0 {
        return Err(Errno::from_raw(-made));
    }
    // SAFETY: the ring has just made it for this process; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}
