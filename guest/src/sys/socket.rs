//! `socket(2)` with any number as its protocol; `nix` knows the names of a few.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// A socket that does not block and is closed on `exec`.
pub(crate) fn open(family: i32, kind: i32, protocol: i32) -> nix::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers, no pointer.
    let fd = nix::Error::result(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the kernel has just made it; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next connection of a listener of any family, which neither blocks nor outlives an `exec`.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    use nix::sys::socket::{SockFlag, accept4};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: the kernel has just made it; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A packet socket that receives frames of one ethertype, on every interface.
pub(crate) fn packet(kind: i32, ethertype: u16) -> nix::Result<OwnedFd> {
    open(libc::AF_PACKET, kind, in_network_order(ethertype))
}

/// An ethertype as `socket(2)` takes it: in network byte order (`packet(7)`).
pub(crate) fn in_network_order(ethertype: u16) -> i32 {
    i32::from(ethertype.to_be())
}
