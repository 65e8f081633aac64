//! A witness's sockets for ICMP echo requests, which have no port.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use claude_bottle_protocol::Nonce;
use nix::errno::Errno;
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{MsgFlags, SockaddrLike, SockaddrStorage, bind, recvmsg, setsockopt};

use super::listener::RECEIVE_BUFFER;
use crate::sys::socket;

/// The longest packet that is looked at, in bytes.
pub(super) const PACKET: usize = 4096;
/// The type of an ICMP echo request (RFC 792).
const ECHO_REQUEST: u8 = 8;

/// A raw socket.
#[derive(Debug)]
pub(crate) struct Raw {
    fd: OwnedFd,
    address: SocketAddr,
}

impl Raw {
    /// Opens one for `address` in the caller's current net namespace.
    pub(super) fn open(address: SocketAddr) -> nix::Result<Self> {
        let fd = socket::open(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER)?;
        Ok(Self { fd, address })
    }

    /// What it was opened for.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The nonces in all that has arrived, each with its sender's IP address. The kernel replies by itself.
    pub(super) fn hear(&self) -> Vec<(Nonce, Option<SocketAddr>)> {
        let mut heard = Vec::new();
        let mut buffer = [0; PACKET];
        loop {
            let length = match receive::<SockaddrStorage>(&self.fd, &mut buffer) {
                Ok((length, _)) => length,
                Err(Errno::EINTR) => continue,
                // None is left; an error is no packet.
                Err(_) => return heard,
            };
            if let Some((from, payload)) = echo_request(&buffer[..length.min(PACKET)]) {
                let peer = Some(SocketAddr::new(from.into(), 0));
                heard.extend(Nonce::scan(payload).map(|nonce| (nonce, peer)));
            }
        }
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Receives one packet, or nothing: whoever shares the socket may have changed its mode, so each call says that it is
/// not to wait.
pub(super) fn receive<S: SockaddrLike>(
    fd: &OwnedFd,
    buffer: &mut [u8],
) -> nix::Result<(usize, Option<S>)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<S>(fd.as_raw_fd(), &mut slices, None, MsgFlags::MSG_DONTWAIT)?;
    Ok((message.bytes, message.address))
}

/// Sender and payload of an IPv4 packet with an ICMP echo request; none for any other. An error quotes the packet that
/// it is about, and a nonce in there has not come to us.
fn echo_request(packet: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let (kind, rest) = packet.get(header..)?.split_first()?;
    (*kind == ECHO_REQUEST).then_some((from.into(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u8, options: usize, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x45 + u8::try_from(options / 4).unwrap();
        packet[12..16].copy_from_slice(&[10, 200, 0, 2]);
        packet.push(kind);
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn only_echo_requests_count_wherever_the_header_ends() {
        for options in [0, 8] {
            let request = packet(8, options, b"nonce");
            assert_eq!(echo_request(&request), Some(([10, 200, 0, 2].into(), &b"nonce"[..])));
        }
        for other in [0, 3, 11] {
            assert_eq!(echo_request(&packet(other, 0, b"nonce")), None, "type {other}");
        }
        for length in 0..21 {
            assert_eq!(echo_request(&packet(8, 0, b"")[..length.min(20)]), None);
        }
    }
}
