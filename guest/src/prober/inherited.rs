//! Use the sockets that somebody forgot to close: each stays in the net namespace that it was made in.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Inherited, Word};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockType, SockaddrLike as _, SockaddrStorage, connect, getpeername,
    getsockname, getsockopt, recv, send, sockopt,
};

use super::{Means, address, dial};
use crate::sys::namespace;

/// The longest answer that is searched for the nonce, in bytes.
const LONGEST_ANSWER: usize = 4096;

/// Sends the nonce to a site's address, from each inherited socket of this kind.
pub(super) fn attempt(
    wanted: &Inherited,
    kind: SockType,
    nonce: &Nonce,
    until: Instant,
    means: &Means,
) -> Word {
    // Nothing but a site's address is dialled, and that literally.
    let Ok(ip) = wanted.target.host.parse::<IpAddr>() else { return Word::new(How::NotResolved) };
    let address = SocketAddr::new(ip, wanted.target.port);
    let mut told = None;
    let mut unused: usize = 0;
    for socket in means.inherited.iter() {
        match standing(socket, address) {
            // The attempt of the other kind uses it.
            Standing::Unconnected(found) | Standing::There(found) if found != kind => {}
            Standing::Unconnected(_) | Standing::There(_) if is_ours(socket, wanted) => {
                let word = Word { dialled: Some(ip), ..one(socket, address, nonce, until) };
                if word.how == How::Answered {
                    return word;
                }
                told = Some(word);
            }
            _ => unused += 1,
        }
    }
    if unused > 0 {
        return not_used(unused);
    }
    told.unwrap_or_else(|| {
        let detail = Some("no such socket was left open".into());
        Word { detail, ..Word::new(How::Unreachable) }
    })
}

/// Somebody's sockets.
pub(super) fn not_used(count: usize) -> Word {
    let detail = format!("{count} sockets left open lead to where nobody knows: not used");
    Word { detail: Some(detail), ..Word::new(How::Fused) }
}

/// What can be done with an inherited socket.
pub(super) enum Standing {
    /// It is connected to nobody.
    Unconnected(SockType),
    /// It is connected to the very address.
    There(SockType),
    /// It is of another family, listens, or is connected to somebody else.
    Unknown,
}

pub(super) fn standing(socket: &OwnedFd, address: SocketAddr) -> Standing {
    let family =
        getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok().and_then(|own| own.family());
    let wanted = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let listens = getsockopt(socket, sockopt::AcceptConn).unwrap_or(true);
    let peer = getpeername::<SockaddrStorage>(socket.as_raw_fd());
    match getsockopt(socket, sockopt::SockType) {
        Ok(kind) if family == Some(wanted) && !listens => match peer {
            Err(_) => Standing::Unconnected(kind),
            Ok(peer) if peer == SockaddrStorage::from(address) => Standing::There(kind),
            Ok(_) => Standing::Unknown,
        },
        _ => Standing::Unknown,
    }
}

/// Whether the socket is in a net namespace of the lab.
pub(super) fn is_ours(socket: &OwnedFd, wanted: &Inherited) -> bool {
    namespace::cookie(socket.as_fd()).is_ok_and(|cookie| wanted.namespaces.contains(&cookie))
}

pub(super) fn one(socket: &OwnedFd, address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    let word = deliver(socket, address, nonce, until);
    Word { local: dial::local(socket), ..word.unwrap_or_else(dial::errno_word) }
}

/// It stays connected, if it was: it is used once.
fn deliver(
    socket: &OwnedFd,
    address: SocketAddr,
    nonce: &Nonce,
    until: Instant,
) -> Result<Word, Errno> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    match connect(socket.as_raw_fd(), &*address::exact(address)) {
        Ok(()) | Err(Errno::EISCONN) => {}
        Err(Errno::EINPROGRESS) => {
            if !dial::wait(socket, PollFlags::POLLOUT, until) {
                return Ok(Word::new(How::TimedOut));
            }
            if let Some(errno) = dial::pending_error(socket) {
                return Err(errno);
            }
        }
        Err(errno) => return Err(errno),
    }
    exchange(socket, nonce, until)
}

/// Sends the nonce over a connected socket of any family, which does not block, and waits for it to come back.
pub(super) fn exchange(socket: &OwnedFd, nonce: &Nonce, until: Instant) -> Result<Word, Errno> {
    send(socket.as_raw_fd(), format!("{nonce}\n").as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while answer.len() < LONGEST_ANSWER && dial::wait(socket, PollFlags::POLLIN, until) {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if Nonce::scan(&answer).any(|seen| seen == *nonce) {
            return Ok(Word::new(How::Answered));
        }
    }
    Ok(Word::new(How::Sent))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;

    use claude_bottle_protocol::prober::Target;

    use super::*;

    fn is_usable(socket: impl Into<OwnedFd>, address: &str) -> bool {
        let standing = standing(&socket.into(), address.parse().unwrap());
        !matches!(standing, Standing::Unknown)
    }

    #[test]
    fn a_socket_that_leads_to_somebody_else_is_not_used() {
        let site = "127.0.0.1:9";
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(is_usable(udp.try_clone().unwrap(), site));
        udp.connect("127.0.0.1:10").unwrap();
        assert!(!is_usable(udp.try_clone().unwrap(), site), "connected elsewhere");
        udp.connect(site).unwrap();
        assert!(is_usable(udp, site), "connected there");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap().to_string();
        assert!(is_usable(TcpStream::connect(&there).unwrap(), &there));
        assert!(!is_usable(listener, site), "it listens");
        assert!(!is_usable(UnixStream::pair().unwrap().0, site), "of another family");
        assert!(!is_usable(UdpSocket::bind("127.0.0.1:0").unwrap(), "[::1]:9"));
    }

    #[test]
    fn a_socket_of_an_unknown_net_namespace_is_not_used() {
        let socket = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let target = Target { host: "127.0.0.1".into(), port: 9 };
        let with = |namespaces| Inherited { target: target.clone(), namespaces };
        assert!(!is_ours(&socket, &with(vec![])));
        if let Ok(cookie) = namespace::cookie(socket.as_fd()) {
            assert!(is_ours(&socket, &with(vec![cookie])));
        }
    }
}
