//! File descriptors that arrive over a socket, and those a process starts with.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// The most descriptors that one message brings.
const MOST: usize = 64;
/// Where [`inherited_sockets`] stops: the usual limit on open files.
const HIGHEST_INHERITED: RawFd = 1024;

/// Receives one message and the descriptors beside it. An empty message is the end.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nothing else owns them.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, descriptors))
}

/// Makes `streams` the standard input, output and error.
pub(crate) fn become_standard(streams: [OwnedFd; 3]) -> nix::Result<()> {
    // None of the streams may be overwritten before it is copied: move them above 2 first.
    let mut above = Vec::new();
    for stream in streams {
        let arg = nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3);
        above.push(nix::fcntl::fcntl(stream.as_fd(), arg)?);
    }
    for (target, source) in above.into_iter().enumerate() {
        let target = RawFd::try_from(target).map_err(|_| nix::Error::EBADF)?;
        // SAFETY: dup2 onto 0, 1 and 2, which std's handles use by number and never own.
        nix::Error::result(unsafe { libc::dup2(source, target) })?;
    }
    Ok(())
}

/// Closes every descriptor but the standard ones: what a process that runs hostile commands must not inherit.
///
/// Only for a child of [`super::fork::run`], whose inherited owners are never dropped: it ends by `exit`.
pub(crate) fn close_all_others() -> nix::Result<()> {
    // SAFETY: nothing in this child uses a descriptor above 2, and no owner of one is dropped.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) })?;
    Ok(())
}

/// Keeps every descriptor but the standard ones from the programs that this process starts.
///
/// `ENOSYS` or `EINVAL` before Linux 5.11, which does not know how.
pub(crate) fn keep_from_children() -> nix::Result<()> {
    let flag = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: with this flag the call closes nothing: it sets `FD_CLOEXEC`.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, flag) })?;
    Ok(())
}

/// Makes `streams` the standard streams and moves `kept` to the numbers that follow, where the programs that this
/// process starts find them too; closes every other descriptor.
///
/// Only for a child of [`super::fork::run`], whose inherited owners are never dropped: it ends by `exit`.
pub(crate) fn keep_only(streams: [OwnedFd; 3], kept: Vec<OwnedFd>) -> nix::Result<Vec<OwnedFd>> {
    become_standard(streams)?;
    // Out of the way of the numbers that they are moved to, and no further: descriptors may be scarce.
    let first_free = 3 + RawFd::try_from(kept.len()).unwrap_or(0);
    let mut above = Vec::new();
    for descriptor in &kept {
        let arg = nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(first_free);
        above.push(nix::fcntl::fcntl(descriptor.as_fd(), arg)?);
    }
    std::mem::forget(kept);
    let mut moved = Vec::new();
    for (target, source) in (3..).zip(above) {
        // SAFETY: nothing in this child uses a descriptor above 2, and no owner of one is dropped.
        nix::Error::result(unsafe { libc::dup2(source, target) })?;
        // SAFETY: dup2 has just made it, and nothing else owns it.
        moved.push(unsafe { OwnedFd::from_raw_fd(target) });
    }
    let first = 3 + u32::try_from(moved.len()).unwrap_or(0);
    // SAFETY: as above.
    nix::Error::result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) })?;
    Ok(moved)
}

/// Every socket that this process was started with, besides its standard streams.
///
/// Once, at the start of a role, before anything else opens a descriptor.
pub(crate) fn inherited_sockets() -> Vec<OwnedFd> {
    open_among(3..HIGHEST_INHERITED)
        .filter_map(|fd| {
            let descriptor = inherited(fd).ok()?;
            let mode = nix::sys::stat::fstat(&descriptor).map_or(0, |stat| stat.st_mode);
            if mode & libc::S_IFMT == libc::S_IFSOCK {
                return Some(descriptor);
            }
            // Nobody's business here: it stays open.
            std::mem::forget(descriptor);
            None
        })
        .collect()
}

/// Which of `numbers` may be open: one question to the kernel for all of them, since each prober begins with it.
fn open_among(numbers: std::ops::Range<RawFd>) -> impl Iterator<Item = RawFd> {
    let mut asked: Vec<_> = numbers.map(|fd| libc::pollfd { fd, events: 0, revents: 0 }).collect();
    let length = libc::nfds_t::try_from(asked.len()).unwrap_or(0);
    // SAFETY: the entries live across the call, and there are as many as it is told.
    let answered = unsafe { libc::poll(asked.as_mut_ptr(), length, 0) };
    // It answers nothing where a process may not have so many: then any of them may be.
    let closed = move |one: &libc::pollfd| answered >= 0 && one.revents & libc::POLLNVAL != 0;
    asked.into_iter().filter(move |one| !closed(one)).map(|one| one.fd)
}

/// The descriptor with number `fd`, inherited from the parent.
pub(crate) fn inherited(fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: only probes whether it is open.
    nix::Error::result(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: open, as just seen; each role takes each of its inherited descriptors once, at its start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
