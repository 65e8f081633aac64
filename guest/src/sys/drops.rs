//! How much the kernel threw away before a socket's owner could see it.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `SK_MEMINFO_DROPS`, the index of `sk_drops` in `SO_MEMINFO`'s answer (`linux/sock_diag.h`).
const DROPS: usize = 8;
/// `SK_MEMINFO_VARS`, the length of that answer.
const VARS: usize = 9;

/// The socket's `sk_drops`: datagrams that found its receive queue full, or connections that found its accept
/// queue full (`tcp_listendrop` counts them there too).
pub(crate) fn of(socket: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut answer = [0_u32; VARS];
    let mut length = libc::socklen_t::try_from(size_of_val(&answer)).unwrap_or(0);
    // SAFETY: `answer` is as long as `length` says and lives across the call.
    nix::Error::result(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            answer.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    Ok(u64::from(answer[DROPS]))
}
