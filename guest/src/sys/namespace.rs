//! Which net namespace a socket is in.

use std::os::fd::{AsRawFd, BorrowedFd};

/// The cookie of the socket's net namespace (`SO_NETNS_COOKIE`): unlike the namespace itself, anybody may ask for it.
/// `ENOPROTOOPT` before Linux 5.14.
pub(crate) fn cookie(socket: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).unwrap_or(0);
    // SAFETY: `cookie` is as long as `length` says and lives across the call.
    nix::Error::result(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    })?;
    Ok(cookie)
}
