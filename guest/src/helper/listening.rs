//! The listening sockets of a net namespace, asked of the kernel (`sock_diag(7)`).
//!
//! `/proc/net/tcp` tells the same, but walks the whole machine's table of connections for it, which takes milliseconds.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::failure::{Doing as _, Failure};

/// `SOCK_DIAG_BY_FAMILY` (`linux/sock_diag.h`).
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR` and `NLMSG_DONE` (`linux/netlink.h`): both end a dump.
const ENDS: [u16; 2] = [2, 3];
/// The length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// The length of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `TCP_LISTEN`, and `TCP_CLOSE`, in which an unconnected UDP socket is (`net/tcp_states.h`).
const LISTEN: u32 = 1 << 10;
const UNCONNECTED: u32 = 1 << 7;

/// Every listening TCP socket and every unconnected UDP one of the current net namespace, a line each, such as
/// `tcp 127.0.0.1:9099`.
pub(super) fn lines() -> Result<String, Failure> {
    let mut text = String::new();
    for (name, protocol, states) in
        [("tcp", IPPROTO_TCP, LISTEN), ("udp", IPPROTO_UDP, UNCONNECTED)]
    {
        for family in [AF_INET, AF_INET6] {
            for address in dump(family, protocol, states)? {
                let _ = writeln!(text, "{name} {address}");
            }
        }
    }
    Ok(text)
}

fn dump(family: i32, protocol: i32, states: u32) -> Result<Vec<SocketAddr>, Failure> {
    let what = || "ask for the listening sockets".to_owned();
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )
    .doing(what)?;
    send(socket.as_raw_fd(), &request(family, protocol, states), MsgFlags::empty()).doing(what)?;
    let mut addresses = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).doing(what)?;
        let mut rest = &buffer[..length];
        while let Some((message, kind, next)) = split(rest) {
            if ENDS.contains(&kind) {
                return Ok(addresses);
            }
            addresses.extend(address(message));
            rest = next;
        }
        if length == 0 {
            return Ok(addresses);
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`; all that is left out stays zero.
fn request(family: i32, protocol: i32, states: u32) -> [u8; HEADER + REQUEST] {
    let mut bytes = [0; HEADER + REQUEST];
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    let flags = u16::try_from(NLM_F_REQUEST | NLM_F_DUMP).unwrap_or(0);
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[16] = u8::try_from(family).unwrap_or(0);
    bytes[17] = u8::try_from(protocol).unwrap_or(0);
    bytes[20..24].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// The first message's payload, its type, and what comes after it.
fn split(bytes: &[u8]) -> Option<(&[u8], u16, &[u8])> {
    let header = bytes.first_chunk::<HEADER>()?;
    let [l0, l1, l2, l3, t0, t1, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
    let payload = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((payload, u16::from_ne_bytes([t0, t1]), rest))
}

/// The local address in a `struct inet_diag_msg`: family at 0, source port at 4 and address at 8, in network order.
fn address(message: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*message.get(4..)?.first_chunk()?);
    let ip: IpAddr = if i32::from(*message.first()?) == AF_INET {
        Ipv4Addr::from(*message.get(8..)?.first_chunk::<4>()?).into()
    } else {
        Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?).into()
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn what_listens_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let lines = lines().unwrap();
        for line in [
            format!("tcp {}", listener.local_addr().unwrap()),
            format!("udp {}", socket.local_addr().unwrap()),
        ] {
            assert!(lines.lines().any(|told| told == line), "{line} in {lines}");
        }
    }

    #[test]
    fn a_short_answer_is_no_address() {
        assert_eq!(address(&[]), None);
        assert_eq!(address(&[2, 10, 0, 0, 0, 9, 0, 0, 127, 0, 0]), None);
        assert_eq!(split(&[200, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
