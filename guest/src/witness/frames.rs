//! A witness's socket for Ethernet frames: one for all of its listeners in a net namespace.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::witness::Listener;
use nix::errno::Errno;
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{LinkAddr, MsgFlags, sendto, setsockopt};

use super::listener::RECEIVE_BUFFER;
use super::raw::{PACKET, receive};
use crate::sys::packets;

/// A packet socket, and who listens with it.
#[derive(Debug)]
pub(crate) struct Frames {
    fd: OwnedFd,
    /// The number and address of each listener: its ethertype is the address's port.
    listeners: Vec<(u32, SocketAddr)>,
}

impl Frames {
    /// Opens one in the caller's current net namespace, for all of `wanted`.
    pub(super) fn open(wanted: &[&Listener]) -> nix::Result<Self> {
        let listeners: Vec<_> = wanted.iter().map(|one| (one.id, one.address)).collect();
        let ethertypes: Vec<_> = listeners.iter().map(|(_, address)| address.port()).collect();
        let fd = packets::open(&ethertypes)?;
        setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER)?;
        Ok(Self { fd, listeners })
    }

    /// Who listens with it, and for what.
    pub(crate) fn listeners(&self) -> &[(u32, SocketAddr)] {
        &self.listeners
    }

    /// The nonces in all that has arrived, each with the listener that it came to. It is sent back to where it came from.
    pub(super) fn hear(&self) -> Vec<(u32, Nonce)> {
        let mut heard = Vec::new();
        let mut buffer = [0; PACKET];
        loop {
            let (length, sender) = match receive::<LinkAddr>(&self.fd, &mut buffer) {
                Ok(received) => received,
                Err(Errno::EINTR) => continue,
                // None is left; an error is no packet.
                Err(_) => return heard,
            };
            let Some(sender) = sender else { continue };
            let ethertype = u16::from_be(sender.protocol());
            let to = self.listeners.iter().find(|(_, address)| address.port() == ethertype);
            let Some((id, _)) = to else { continue };
            for nonce in Nonce::scan(&buffer[..length.min(PACKET)]) {
                // A failure is the sender's to notice.
                let payload = nonce.as_str().as_bytes();
                let _ = sendto(self.fd.as_raw_fd(), payload, &sender, MsgFlags::MSG_DONTWAIT);
                heard.push((*id, nonce));
            }
        }
    }
}

impl AsFd for Frames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
