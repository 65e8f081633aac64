//! Connect over multipath TCP (RFC 8684), send the nonce, read the answer. A peer that does not speak it is reached by
//! ordinary TCP; rules for the protocol number of TCP alone have seen neither.

use std::net::SocketAddr;
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};

use super::{Means, dial, tcp};
use crate::sys::socket;

pub(super) fn attempt(target: &Target, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    dial::each_address(target, means, |address| one(address, nonce, until))
}

fn one(address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let open = || {
        let opened = socket::open(family, libc::SOCK_STREAM, libc::IPPROTO_MPTCP);
        opened.map_err(dial::socket_word)
    };
    let socket = match dial::connected_by(open, address, until) {
        Ok(socket) => socket,
        Err(word) => return word,
    };
    let local = dial::local(&socket);
    let how = if tcp::exchange(socket, nonce, until) { How::Answered } else { How::Connected };
    Word { local, ..Word::new(how) }
}
