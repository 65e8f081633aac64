//! Connect over TCP by `sendto(2)` with `MSG_FASTOPEN` (RFC 7413): no `connect(2)` that a filter or a Landlock rule
//! would see, and where a cookie is known the data leaves with the first packet.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, sendto};

use super::{Means, address, dial, tcp};
use crate::sys::socket;

pub(super) fn attempt(target: &Target, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    dial::each_address(target, means, |address| one(address, nonce, until))
}

fn one(address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = match socket::open(family, libc::SOCK_STREAM, 0) {
        Ok(socket) => socket,
        Err(errno) => return dial::socket_word(errno),
    };
    let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL);
    let line = format!("{nonce}\n");
    let to = address::exact(address);
    let with_the_first = match sendto(socket.as_raw_fd(), line.as_bytes(), &*to, flags) {
        Ok(_) => true,
        // No cookie yet: the handshake is under way, and the data has not been taken.
        Err(Errno::EINPROGRESS) => false,
        Err(errno) => return dial::errno_word(errno),
    };
    let socket = match dial::established(socket, until) {
        Ok(socket) => socket,
        Err(word) => return word,
    };
    let local = dial::local(&socket);
    let answered = if with_the_first {
        tcp::answered(TcpStream::from(socket), nonce, until)
    } else {
        tcp::exchange(socket, nonce, until)
    };
    let how = if answered { How::Answered } else { How::Connected };
    Word { local, ..Word::new(how) }
}
