//! Send the nonce to a multicast group, or as a broadcast, on every interface: no route is asked.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};
use nix::sys::socket::sockopt::{BindToDevice, Broadcast};
use nix::sys::socket::{MsgFlags, sendto, setsockopt};

use super::{Means, address, dial};
use crate::sys::{interface, socket};

/// It goes to whoever is on the wire, so only in a net namespace of this run. No answer is waited for.
pub(super) fn attempt(target: &Target, nonce: &Nonce, means: &Means) -> Word {
    if !means.guard.permits_frames() {
        let detail = Some("the fuse forbids what goes to everybody on the wire".into());
        return Word { detail, ..Word::new(How::Fused) };
    }
    dial::each_address(target, means, |address| on_each_interface(address, nonce))
}

fn on_each_interface(address: SocketAddr, nonce: &Nonce) -> Word {
    let names = interface::names().unwrap_or_default();
    let mut told = Word::new(How::Unreachable);
    for name in names.iter().filter(|name| *name != "lo") {
        let word = one(name, address, nonce);
        // One that has sent says more than one that has not.
        if told.how != How::Sent {
            told = word;
        }
    }
    told
}

fn one(interface: &str, address: SocketAddr, nonce: &Nonce) -> Word {
    let socket = match socket::open(libc::AF_INET, libc::SOCK_DGRAM, 0) {
        Ok(socket) => socket,
        Err(errno) => return dial::socket_word(errno),
    };
    let bound = setsockopt(&socket, BindToDevice, &OsString::from(interface))
        .and_then(|()| setsockopt(&socket, Broadcast, &true));
    let (payload, to) = (nonce.as_str().as_bytes(), address::exact(address));
    let sent =
        bound.and_then(|()| sendto(socket.as_raw_fd(), payload, &*to, MsgFlags::MSG_DONTWAIT));
    match sent {
        Ok(_) => Word::new(How::Sent),
        Err(errno) => dial::errno_word(errno),
    }
}
