//! Broadcast the nonce in an Ethernet frame on every interface: below IP, no route and no firewall is asked.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{LinkAddr, MsgFlags, recv, sendto};

use super::{Means, STACK, dial};
use crate::sys::{interface, socket, uring};

/// The ethertype of ARP (RFC 826).
const ARP: u16 = 0x0806;
/// Everybody on the wire.
const BROADCAST: [u8; 6] = [0xff; 6];

/// Makes the socket that frames of an ethertype leave from and arrive at.
type Open = fn(u16) -> nix::Result<OwnedFd>;

/// By `socket(2)`.
pub(super) fn plain(ethertype: u16) -> nix::Result<OwnedFd> {
    socket::packet(libc::SOCK_RAW, ethertype)
}

/// By `io_uring`.
pub(super) fn by_io_uring(ethertype: u16) -> nix::Result<OwnedFd> {
    let protocol = socket::in_network_order(ethertype);
    match uring::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol) {
        // A ring of before Linux 5.19, which makes no sockets.
        Err(Errno::EINVAL) => Err(Errno::ENOSYS),
        made => made,
    }
}

/// A frame whose ethertype is the target's port, and whose payload is the nonce.
pub(super) fn attempt(
    open: Open,
    target: &Target,
    nonce: &Nonce,
    until: Instant,
    means: &Means,
) -> Word {
    on_the_wire(target, means, |_| {
        let frame = |source| ethernet(source, target.port, &[], nonce);
        broadcast(open, target.port, frame, nonce, until)
    })
}

/// An ARP reply that nobody asked for: the target's address is said to be at our interface.
pub(super) fn attempt_arp(target: &Target, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    on_the_wire(target, means, |claimed| {
        let IpAddr::V4(claimed) = claimed else {
            let detail = Some("ARP is for IPv4".into());
            return Word { detail, ..Word::new(How::Failed) };
        };
        let frame = |source| ethernet(source, ARP, &arp_reply(source, claimed), nonce);
        broadcast(plain, ARP, frame, nonce, until)
    })
}

/// The frame of [`attempt`], from a socket made by the 32-bit system call.
pub(super) fn attempt_32_bit(target: &Target, nonce: &Nonce, means: &Means) -> Word {
    on_the_wire(target, means, |_| send_32_bit(|source| ethernet(source, target.port, &[], nonce)))
}

#[cfg(target_arch = "x86_64")]
fn send_32_bit(frame: impl Fn([u8; 6]) -> Vec<u8>) -> Word {
    use nix::sys::signal::Signal;

    use crate::sys::int80::{self, Ended};
    let frames = match interfaces() {
        Ok(interfaces) => interfaces.into_iter().map(|(link, source)| (frame(source), link)),
        Err(errno) => return dial::errno_word(errno),
    };
    let denied = |why: &str| Word { detail: Some(why.into()), ..Word::new(How::SocketDenied) };
    match int80::send(&frames.collect::<Vec<_>>()) {
        Ok(Ended::Sent) => Word::new(How::Sent),
        Ok(Ended::Killed(Signal::SIGSYS)) => denied("the filter killed the process that tried"),
        Ok(Ended::Killed(Signal::SIGSEGV)) => denied("this kernel has no 32-bit system calls"),
        Ok(Ended::Killed(_)) => Word::new(How::Failed),
        Ok(Ended::Failed(errno)) => dial::socket_word(errno),
        Err(errno) => Word { errno: Some(errno as i32), ..Word::new(How::Failed) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn send_32_bit(_: impl Fn([u8; 6]) -> Vec<u8>) -> Word {
    let detail = Some("only x86-64 has 32-bit system calls beside its own".into());
    Word { detail, ..Word::new(How::SocketDenied) }
}

/// Does `attempt` for the target's addresses, if frames may be sent at all.
fn on_the_wire(target: &Target, means: &Means, attempt: impl Fn(IpAddr) -> Word + Sync) -> Word {
    if !means.guard.permits_frames() {
        let detail = Some("the fuse forbids frames".into());
        return Word { detail, ..Word::new(How::Fused) };
    }
    dial::each_address(target, means, |address| attempt(address.ip()))
}

fn broadcast(
    open: Open,
    ethertype: u16,
    frame: impl Fn([u8; 6]) -> Vec<u8>,
    nonce: &Nonce,
    until: Instant,
) -> Word {
    let socket = match open(ethertype) {
        Ok(socket) => socket,
        Err(errno) => return dial::socket_word(errno),
    };
    let interfaces = match interfaces() {
        Ok(interfaces) => interfaces,
        Err(errno) => return dial::errno_word(errno),
    };
    // Overwritten by whatever becomes of a frame.
    let mut sent = Err(Errno::ENETUNREACH);
    for (link, source) in interfaces {
        let one = sendto(socket.as_raw_fd(), &frame(source), &link, MsgFlags::MSG_DONTWAIT);
        sent = sent.or(one);
    }
    let word = match sent {
        Ok(_) => answer(&socket, nonce, until),
        Err(errno) => dial::errno_word(errno),
    };
    // The kernel closes a packet socket only when every processor has passed a quiet state (`packet_release`): some 20 ms, for
    // which nobody needs to wait. Without a thread it takes as long as it takes.
    let _ = std::thread::Builder::new().stack_size(STACK).spawn(move || drop(socket));
    word
}

fn answer(socket: &OwnedFd, nonce: &Nonce, until: Instant) -> Word {
    let mut buffer = [0; 2048];
    while dial::wait(socket, PollFlags::POLLIN, until) {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) if Nonce::scan(&buffer[..length]).any(|seen| seen == *nonce) => {
                return Word::new(How::Answered);
            }
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return dial::errno_word(errno),
        }
    }
    Word::new(How::Sent)
}

/// The interfaces that are up, without loopback, each with its hardware address.
fn interfaces() -> nix::Result<Vec<(LinkAddr, [u8; 6])>> {
    let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|error| errno(&error))?;
    let names = interface::names().map_err(|error| errno(&error))?;
    // One that has just gone is not there.
    Ok(names.iter().filter_map(|name| interface::link(any.as_fd(), name).ok().flatten()).collect())
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn ethernet(source: [u8; 6], ethertype: u16, head: &[u8], nonce: &Nonce) -> Vec<u8> {
    let mut frame = Vec::from(BROADCAST);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(head);
    // Behind an ARP message, where short frames have their padding, receivers do not look.
    frame.extend_from_slice(nonce.as_str().as_bytes());
    frame
}

/// `claimed` is at `source`: a gratuitous reply (RFC 5227 §3).
fn arp_reply(source: [u8; 6], claimed: Ipv4Addr) -> Vec<u8> {
    const ETHERNET_IPV4_REPLY: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];
    let mut message = Vec::from(ETHERNET_IPV4_REPLY);
    for (hardware, protocol) in [(source, claimed), (BROADCAST, claimed)] {
        message.extend_from_slice(&hardware);
        message.extend_from_slice(&protocol.octets());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_header_a_message_and_the_nonce() {
        let (nonce, mac) = (Nonce::from_bits(7), [2, 0, 0, 0, 0, 9]);
        let message = arp_reply(mac, Ipv4Addr::new(10, 200, 0, 1));
        assert_eq!(message.len(), 28, "RFC 826, Ethernet and IPv4");
        assert_eq!(message[8..18], [2, 0, 0, 0, 0, 9, 10, 200, 0, 1]);
        let frame = ethernet(mac, ARP, &message, &nonce);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 6]);
        assert_eq!(Nonce::scan(&frame).next(), Some(nonce));
    }
}
