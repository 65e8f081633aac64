//! Whether a daemon listens yet: a connection to its port, made and closed.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockname, getsockopt, socket,
    sockopt,
};

/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries until one is answered.
#[derive(Debug)]
pub(crate) struct Knock {
    address: SocketAddrV4,
    next: Instant,
    /// A connection that is being made. The kernel answers for a listener, so this is one whose backlog is full.
    pending: Option<OwnedFd>,
}

impl Knock {
    /// Tries from `now` on, at an address of this net namespace or at 127.0.0.1.
    pub(crate) fn new(address: Option<Ipv4Addr>, port: NonZeroU16, now: Instant) -> Self {
        let address = SocketAddrV4::new(address.unwrap_or(Ipv4Addr::LOCALHOST), port.get());
        Self { address, next: now, pending: None }
    }

    /// When to [`Self::again`].
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Makes another try; whether it was answered at once.
    pub(crate) fn again(&mut self, now: Instant) -> bool {
        self.next = now + PAUSE;
        self.pending = None;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let Ok(socket) = socket(AddressFamily::Inet, SockType::Stream, flags, None) else {
            return false;
        };
        match connect(socket.as_raw_fd(), &SockaddrIn::from(self.address)) {
            Ok(()) => self.is_not_itself(&socket),
            Err(Errno::EINPROGRESS) => {
                self.pending = Some(socket);
                false
            }
            Err(_) => false,
        }
    }

    /// The descriptor to wait for, until it can be written, before [`Self::settle`].
    pub(crate) fn pending(&self) -> Option<BorrowedFd<'_>> {
        self.pending.as_ref().map(AsFd::as_fd)
    }

    /// Whether the pending try was answered.
    pub(crate) fn settle(&mut self) -> bool {
        let Some(socket) = self.pending.take() else {
            return false;
        };
        let connected = matches!(getsockopt(&socket, sockopt::SocketError), Ok(0));
        connected && self.is_not_itself(&socket)
    }

    /// A connection to a port that nobody listens on, but from which the kernel happened to make the connection,
    /// meets itself (RFC 9293 §3.5, simultaneous open).
    fn is_not_itself(&self, socket: &OwnedFd) -> bool {
        getsockname::<SockaddrIn>(socket.as_raw_fd())
            .is_ok_and(|address| address.port() != self.address.port())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn answered(knock: &mut Knock) -> bool {
        let now = knock.next();
        if knock.again(now) {
            return true;
        }
        if let Some(pending) = knock.pending() {
            poll(&mut [PollFd::new(pending, PollFlags::POLLOUT)], PollTimeout::NONE).unwrap();
        }
        knock.settle()
    }

    #[test]
    fn only_a_listener_answers() {
        for address in [None, Some(Ipv4Addr::new(127, 0, 0, 2))] {
            let on = address.unwrap_or(Ipv4Addr::LOCALHOST);
            let listener = TcpListener::bind((on, 0)).unwrap();
            let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
            let start = Instant::now();
            let mut knock = Knock::new(address, port, start);
            assert!(answered(&mut knock));
            assert_eq!(knock.next(), start + PAUSE);
            let elsewhere = Some(Ipv4Addr::new(127, 0, 0, 3));
            assert!(!answered(&mut Knock::new(elsewhere, port, start)));
            drop(listener);
            assert!(!answered(&mut knock));
        }
    }
}
