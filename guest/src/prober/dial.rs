//! What every dialling attempt shares: the target's addresses, the fuse, the socket, waiting, and errnos in words.

use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use claude_bottle_protocol::prober::{How, Target, Word};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getpeername, getsockname,
    setsockopt, socket,
};

use super::{Means, STACK, address};
use crate::sys::interface;

/// Tries each address that `target` means until one answers; tells how the last one ended, or the first that got
/// anywhere.
pub(super) fn each_address(
    target: &Target,
    means: &Means,
    attempt: impl Fn(SocketAddr) -> Word + Sync,
) -> Word {
    let permits = |address| means.guard.permits(address);
    each(target, permits, |address| match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => on_each_wire(v6, &attempt),
        other => attempt(other),
    })
}

/// A link-local address means another machine on every wire (RFC 4007): each of them is tried, at the same time, since one
/// on which nobody has it takes all the patience that there is.
fn on_each_wire(address: SocketAddrV6, attempt: &(impl Fn(SocketAddr) -> Word + Sync)) -> Word {
    let names = interface::names().unwrap_or_default();
    let wires = names.iter().filter(|name| *name != "lo");
    let wires: Vec<u32> = wires.filter_map(|name| if_nametoindex(name.as_str()).ok()).collect();
    std::thread::scope(|scope| {
        let spawn = |wire: &u32| {
            let scoped = SocketAddrV6::new(*address.ip(), address.port(), 0, *wire);
            let builder = std::thread::Builder::new().stack_size(STACK);
            builder.spawn_scoped(scope, move || attempt(scoped.into()))
        };
        let tries: Vec<_> = wires.iter().map(spawn).collect();
        let words = tries.into_iter().map(|tried| match tried.map(ScopedJoinHandle::join) {
            Ok(Ok(word)) => word,
            _ => Word::new(How::Failed),
        });
        words.max_by_key(|word| telling(word.how)).unwrap_or_else(|| Word::new(How::Unreachable))
    })
}

/// Which of several words is told: whatever got furthest, and what was not made before what failed.
fn telling(how: How) -> u8 {
    match how {
        How::Answered => 5,
        How::Connected => 4,
        How::Sent => 3,
        How::TimedOut => 2,
        How::Failed | How::Fused => 1,
        _ => 0,
    }
}

/// As [`each_address`], for what asks somebody to carry the nonce on: without the exception for loopback.
pub(super) fn each_server(
    target: &Target,
    means: &Means,
    attempt: impl FnMut(SocketAddr) -> Word,
) -> Word {
    each(target, |address| means.guard.permits_service(address), attempt)
}

fn each(
    target: &Target,
    permits: impl Fn(SocketAddr) -> bool,
    mut attempt: impl FnMut(SocketAddr) -> Word,
) -> Word {
    let mut told = Word::new(How::NotResolved);
    for ip in address::resolve(&target.host) {
        let address = SocketAddr::new(ip, target.port);
        let word = if permits(address) {
            attempt(address)
        } else {
            Word { detail: Some(format!("the fuse forbids {address}")), ..Word::new(How::Fused) }
        };
        let word = Word { dialled: Some(ip), ..word };
        if word.how == How::Answered {
            return word;
        }
        if !told.how.claims_reach() {
            told = word;
        }
    }
    told
}

/// A socket connected to `address`, or why there is none.
///
/// A client's own port is chosen by the kernel, and now and then it is the very one that is dialled: on loopback the
/// socket is then connected to itself, and gets its own nonce for an answer.
pub(super) fn connected(
    kind: SockType,
    address: SocketAddr,
    until: Instant,
) -> Result<OwnedFd, Word> {
    not_to_itself(|| connected_once(kind, address, until))
}

/// As [`connected`], however the socket is made.
pub(super) fn connected_by(
    open: impl Fn() -> Result<OwnedFd, Word>,
    address: SocketAddr,
    until: Instant,
) -> Result<OwnedFd, Word> {
    not_to_itself(|| connect_to(open()?, address, until))
}

fn not_to_itself(connect: impl Fn() -> Result<OwnedFd, Word>) -> Result<OwnedFd, Word> {
    let socket = connect()?;
    if !is_connected_to_itself(&socket) {
        return Ok(socket);
    }
    // Kept open until the next one has its port, which is another one for that reason.
    connect()
}

/// Whether `socket` is its own peer.
fn is_connected_to_itself(socket: &OwnedFd) -> bool {
    let peer = getpeername::<SockaddrStorage>(socket.as_raw_fd());
    local(socket).is_some_and(|local| peer.is_ok_and(|peer| typed(&peer) == Some(local)))
}

fn connected_once(kind: SockType, address: SocketAddr, until: Instant) -> Result<OwnedFd, Word> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None).map_err(socket_word)?;
    if kind == SockType::Datagram {
        // Or an unreachable net or host would pass for silence (`ip(7)`, IP_RECVERR). Without it, it does.
        let _ = match address {
            SocketAddr::V4(_) => setsockopt(&socket, Ipv4RecvErr, &true),
            SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvErr, &true),
        };
    }
    connect_to(socket, address, until)
}

/// Connects `socket`, which does not block, to `address`.
fn connect_to(socket: OwnedFd, address: SocketAddr, until: Instant) -> Result<OwnedFd, Word> {
    match connect(socket.as_raw_fd(), &*address::exact(address)) {
        Ok(()) => return Ok(socket),
        Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno_word(errno)),
    }
    established(socket, until)
}

/// Waits until `socket`, which is being connected, is; or says why not.
pub(super) fn established(socket: OwnedFd, until: Instant) -> Result<OwnedFd, Word> {
    if !wait(&socket, PollFlags::POLLOUT, until) {
        return Err(Word::new(How::TimedOut));
    }
    match pending_error(&socket) {
        None => Ok(socket),
        Some(errno) => Err(errno_word(errno)),
    }
}

/// Waits until `socket` is ready for `what`, or has failed; false when `until` comes first.
pub(super) fn wait(socket: &OwnedFd, what: PollFlags, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: a wait of zero would spin for the last millisecond.
        let left = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(socket.as_fd(), what)];
        match poll(&mut fds, PollTimeout::from(left)) {
            Ok(0) if Instant::now() >= until => return false,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

/// The error that the kernel holds for `socket`, taken.
pub(super) fn pending_error(socket: &OwnedFd) -> Option<Errno> {
    let errno = nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::SocketError);
    errno.ok().filter(|errno| *errno != 0).map(Errno::from_raw)
}

/// The local address of `socket`.
pub(super) fn local(socket: &OwnedFd) -> Option<SocketAddr> {
    typed(&getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok()?)
}

fn typed(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some((v4.ip(), v4.port()).into());
    }
    storage.as_sockaddr_in6().map(|v6| (v6.ip(), v6.port()).into())
}

/// `socket(2)` failed.
pub(super) fn socket_word(errno: Errno) -> Word {
    let how = match errno {
        Errno::EPERM
        | Errno::EACCES
        | Errno::EAFNOSUPPORT
        | Errno::EPROTONOSUPPORT
        | Errno::ESOCKTNOSUPPORT
        | Errno::ENOSYS => How::SocketDenied,
        _ => How::Failed,
    };
    Word { errno: Some(errno as i32), ..Word::new(how) }
}

/// How an attempt ended that failed with this errno, if one is known.
pub(super) fn errno_how(errno: Option<i32>) -> How {
    errno.map_or(How::Failed, |errno| errno_word(Errno::from_raw(errno)).how)
}

/// `connect(2)`, `send(2)` or `recv(2)` failed.
pub(super) fn errno_word(errno: Errno) -> Word {
    let how = match errno {
        Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::EPIPE => How::Refused,
        // EINVAL: a blackhole route. EADDRNOTAVAIL: no local address that could go there.
        Errno::ENETUNREACH
        | Errno::EHOSTUNREACH
        | Errno::EADDRNOTAVAIL
        | Errno::ENETDOWN
        | Errno::EHOSTDOWN
        | Errno::EAFNOSUPPORT
        | Errno::EINVAL => How::Unreachable,
        Errno::EACCES | Errno::EPERM => How::Prohibited,
        Errno::ETIMEDOUT => How::TimedOut,
        _ => How::Failed,
    };
    Word { errno: Some(errno as i32), ..Word::new(how) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn whoever_is_connected_to_itself_tries_again() {
        let tries = std::cell::Cell::new(0);
        let connect = || {
            tries.set(tries.get() + 1);
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if tries.get() == 1 {
                socket.connect(socket.local_addr().unwrap()).unwrap();
            }
            Ok(socket.into())
        };
        assert!(!is_connected_to_itself(&not_to_itself(connect).unwrap()));
        assert_eq!(tries.get(), 2);
    }

    #[test]
    fn a_socket_that_is_its_own_peer_is_noticed() {
        let bound = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (itself, other) = (bound(), bound());
        itself.connect(itself.local_addr().unwrap()).unwrap();
        other.connect(itself.local_addr().unwrap()).unwrap();
        assert!(is_connected_to_itself(&itself.into()));
        assert!(!is_connected_to_itself(&other.into()));
        assert!(!is_connected_to_itself(&bound().into()));
    }
}
