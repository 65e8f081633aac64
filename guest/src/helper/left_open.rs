//! Sockets that somebody forgot to close: what a bottle's commands inherit under a breach.

use std::os::fd::{AsRawFd as _, OwnedFd};

use claude_bottle_protocol::helper::LeftOpen;
use claude_bottle_protocol::witness::Transport;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::server::enter;
use crate::failure::{Doing as _, Failure};

/// How long one may take to connect, in seconds. Within one machine it takes no time; where it does not come about it would
/// take minutes.
const CONNECTS_WITHIN: i64 = 2;

/// As they come from their net namespaces: unbound and unconnected, or connected before there is any wall.
pub(super) fn sockets(wanted: &[(Option<OwnedFd>, LeftOpen)]) -> Result<Vec<OwnedFd>, Failure> {
    let mut left = Vec::new();
    for (net, LeftOpen { transport, connected, .. }) in wanted {
        enter(net.as_ref())?;
        let kind = match transport {
            Transport::Udp => SockType::Datagram,
            Transport::Tcp => SockType::Stream,
            other => return Err(Failure::new(format!("leave a socket for {other} open"))),
        };
        let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None);
        let socket = socket.doing(|| "make a socket to leave open".into())?;
        if let Some(peer) = connected {
            setsockopt(&socket, SendTimeout, &TimeVal::new(CONNECTS_WITHIN, 0))
                .and_then(|()| connect(socket.as_raw_fd(), &SockaddrStorage::from(*peer)))
                .doing(|| format!("connect a socket to leave open to {peer}"))?;
        }
        left.push(socket);
    }
    Ok(left)
}
