//! Send the nonce from a UDP socket that is never connected, as a rule for `connect(2)` would not see it.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{Target, Word};
use nix::sys::socket::{MsgFlags, sendto};

use super::{Means, address, dial, udp};
use crate::sys::socket;

pub(super) fn attempt(target: &Target, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    dial::each_address(target, means, |address| one(address, nonce, until))
}

fn one(address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = match socket::open(family, libc::SOCK_DGRAM, 0) {
        Ok(socket) => socket,
        Err(errno) => return dial::socket_word(errno),
    };
    let (payload, to) = (nonce.as_str().as_bytes(), address::exact(address));
    if let Err(errno) = sendto(socket.as_raw_fd(), payload, &*to, MsgFlags::MSG_DONTWAIT) {
        return dial::errno_word(errno);
    }
    let local = dial::local(&socket);
    let word = match socket.try_clone() {
        Ok(waiting) => udp::answer(&UdpSocket::from(socket), &waiting, nonce, until),
        Err(_) => Word::new(claude_bottle_protocol::prober::How::Failed),
    };
    Word { local, ..word }
}
