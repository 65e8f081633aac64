//! Send the nonce in an ICMP echo request, wait for the reply.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, recv, send};

use super::{Means, dial};
use crate::sys::socket;

/// Types of ICMP messages (RFC 792).
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Which socket sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A datagram socket, for groups in `net.ipv4.ping_group_range` (`icmp(7)`).
    Ping,
    /// A raw socket, for those with `CAP_NET_RAW` (`raw(7)`).
    Raw,
}

pub(super) fn attempt(
    kind: Kind,
    target: &Target,
    nonce: &Nonce,
    until: Instant,
    means: &Means,
) -> Word {
    dial::each_address(target, means, |address| one(kind, address, nonce, until))
}

fn one(kind: Kind, address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    if address.is_ipv6() {
        let detail = Some("this ICMP is that of IPv4".into());
        return Word { detail, ..Word::new(How::Failed) };
    }
    let socket_type = match kind {
        Kind::Ping => libc::SOCK_DGRAM,
        Kind::Raw => libc::SOCK_RAW,
    };
    let open = || {
        let opened = socket::open(libc::AF_INET, socket_type, libc::IPPROTO_ICMP);
        opened.map_err(dial::socket_word)
    };
    let address = SocketAddr::new(address.ip(), 0);
    let socket = match dial::connected_by(open, address, until) {
        Ok(socket) => socket,
        Err(word) => return word,
    };
    let local = dial::local(&socket);
    let message = echo_request(nonce.as_str().as_bytes());
    let word = match send(socket.as_raw_fd(), &message, MsgFlags::MSG_DONTWAIT) {
        Ok(_) => reply(&socket, kind, nonce, until),
        Err(errno) => dial::errno_word(errno),
    };
    Word { local, ..word }
}

fn reply(socket: &OwnedFd, kind: Kind, nonce: &Nonce, until: Instant) -> Word {
    let mut buffer = [0; 2048];
    while dial::wait(socket, PollFlags::POLLIN, until) {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                let reply = echo_reply(kind, &buffer[..length]);
                if reply.is_some_and(|payload| Nonce::scan(payload).any(|seen| seen == *nonce)) {
                    return Word::new(How::Answered);
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return dial::errno_word(errno),
        }
    }
    Word::new(How::TimedOut)
}

/// An echo request. A ping socket writes its identifier and its checksum itself.
fn echo_request(payload: &[u8]) -> Vec<u8> {
    let mut message = vec![ECHO_REQUEST, 0, 0, 0, 0xcb, 0x0e, 0, 1];
    message.extend_from_slice(payload);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// What an echo reply brings; none for any other message. A raw socket shows the IP header, and requests to this host.
fn echo_reply(kind: Kind, packet: &[u8]) -> Option<&[u8]> {
    let header = match kind {
        Kind::Ping => 0,
        Kind::Raw => usize::from(packet.first()? & 0x0f) * 4,
    };
    let (message, rest) = packet.get(header..)?.split_first()?;
    (*message == ECHO_REPLY).then_some(rest)
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        // Folded at once: it never overflows, however long the message is.
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        // The example in its section 3 sums up to 0xddf2.
        assert_eq!(checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), !0xff00, "padded with a zero");
        // Whoever sums up a sound message, checksum included, gets zero.
        assert_eq!(checksum(&echo_request(b"odd payload")), 0);
    }

    #[test]
    fn only_a_reply_is_an_answer() {
        let mut packet = vec![0x46];
        packet.resize(24, 0);
        packet.extend_from_slice(&[ECHO_REPLY, 1, 2]);
        assert_eq!(echo_reply(Kind::Raw, &packet), Some(&[1, 2][..]));
        packet[24] = ECHO_REQUEST;
        assert_eq!(echo_reply(Kind::Raw, &packet), None);
        assert_eq!(echo_reply(Kind::Raw, &packet[..20]), None);
        assert_eq!(echo_reply(Kind::Ping, &[ECHO_REPLY, 7]), Some(&[7][..]));
        assert_eq!(echo_reply(Kind::Ping, &[]), None);
    }
}
