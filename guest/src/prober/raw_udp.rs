//! Send the nonce in a UDP datagram whose headers are made by hand, from a raw socket: no port is bound, no filter on
//! UDP sockets is asked.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd as _;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};
use nix::sys::socket::{MsgFlags, SockaddrIn, sendto};

use super::{Means, dial};
use crate::sys::socket;

/// The source port, which nobody listens on: no answer is waited for.
const SOURCE_PORT: u16 = 9;

pub(super) fn attempt(target: &Target, nonce: &Nonce, means: &Means) -> Word {
    dial::each_address(target, means, |address| one(address, nonce))
}

fn one(address: SocketAddr, nonce: &Nonce) -> Word {
    let SocketAddr::V4(address) = address else {
        let detail = Some("these headers are those of IPv4".into());
        return Word { detail, ..Word::new(How::Failed) };
    };
    let socket = match socket::open(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW) {
        Ok(socket) => socket,
        Err(errno) => return dial::socket_word(errno),
    };
    let packet = packet(address, nonce.as_str().as_bytes());
    let to = SockaddrIn::from(SocketAddrV4::new(*address.ip(), 0));
    match sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::MSG_DONTWAIT) {
        Ok(_) => Word::new(How::Sent),
        Err(errno) => dial::errno_word(errno),
    }
}

/// An IPv4 packet with a UDP datagram. The kernel fills in what is left at zero: source, length, identifier and
/// checksum (`raw(7)`, `IP_HDRINCL`). UDP may go without a checksum in IPv4 (RFC 768).
fn packet(to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    const UDP: u8 = 17;
    const TIME_TO_LIVE: u8 = 64;
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, TIME_TO_LIVE, UDP, 0, 0];
    packet.extend_from_slice(&Ipv4Addr::UNSPECIFIED.octets());
    packet.extend_from_slice(&to.ip().octets());
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    for field in [SOURCE_PORT, to.port(), length, 0] {
        packet.extend_from_slice(&field.to_be_bytes());
    }
    packet.extend_from_slice(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_name_the_target_and_the_length() {
        let packet = packet("10.200.0.1:8888".parse().unwrap(), b"nonce");
        assert_eq!(packet.len(), 20 + 8 + 5);
        assert_eq!(packet[16..20], [10, 200, 0, 1]);
        assert_eq!(packet[22..26], [0x22, 0xb8, 0, 13]);
        assert_eq!(&packet[28..], b"nonce");
    }
}
