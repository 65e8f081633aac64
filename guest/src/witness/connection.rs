//! What arrives at a witness: a connection's bytes, a datagram.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::nonce::Search;
use claude_bottle_protocol::witness::{Service, Sighting};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
};

use super::resolver::Resolver;
use crate::dns;

/// The longest query over TCP that is answered, its length included.
const LONGEST_QUERY: usize = 514;

/// A stream of bytes in both directions.
pub(crate) trait Stream: Read + Write + AsFd {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}
/// A socket for which the standard library has no type of its own.
impl Stream for File {}

/// An accepted connection, which never blocks.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    service: Service,
    /// What a resolver has read of a query that is not there as a whole.
    query: Vec<u8>,
    /// When it was accepted, and from whom.
    pub(crate) sighting: Sighting,
    search: Search,
}

impl Connection {
    /// A connection that has just been accepted.
    pub(crate) fn new(stream: Box<dyn Stream>, service: Service, sighting: Sighting) -> Self {
        Self { stream, service, query: Vec::new(), sighting, search: Search::default() }
    }

    /// Reads what is there and answers it. False: the connection has ended.
    pub(crate) fn hear(&mut self, resolver: &mut Resolver) -> (Vec<Nonce>, bool) {
        let mut nonces = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return (nonces, false),
                Ok(length) => {
                    let asks = self.resolve(&buffer[..length], resolver);
                    self.search(&buffer[..length], !asks, &mut nonces);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (nonces, true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return (nonces, false),
            }
        }
    }

    /// Answers a query; false if these bytes are none. A query's length comes first, and fits into the second byte:
    /// no text begins like that.
    fn resolve(&mut self, bytes: &[u8], resolver: &mut Resolver) -> bool {
        let begins = self.query.first().or(bytes.first()) == Some(&0);
        if self.service != Service::Resolver || !begins {
            return false;
        }
        self.query.extend_from_slice(&bytes[..bytes.len().min(LONGEST_QUERY)]);
        if let Some(message) = dns::unframed(&self.query) {
            let whole = 2 + message.len();
            if let Some(answer) = resolver.answer(message) {
                // The client may be gone.
                let _ = self.stream.write_all(&dns::framed(&answer));
            }
            self.query.drain(..whole);
        }
        self.query.truncate(LONGEST_QUERY);
        true
    }

    fn search(&mut self, bytes: &[u8], echo: bool, nonces: &mut Vec<Nonce>) {
        let (found, text) = self.search.take(bytes);
        for nonce in &found {
            if echo {
                // The client may be gone; what it sent has been seen all the same.
                let _ = self.stream.write_all(self.service.answer(nonce, &text).as_bytes());
            }
        }
        nonces.extend(found);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A datagram's sender, and the local address it was sent to.
pub(crate) struct Received {
    /// The payload's length in bytes.
    pub(crate) length: usize,
    /// The sender.
    pub(crate) peer: SocketAddr,
    to: Option<ControlMessageOwned>,
}

/// Receives one datagram; `WouldBlock` when there is none.
pub(crate) fn receive_datagram(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = nix::cmsg_space!(nix::libc::in_pktinfo, nix::libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let to = message.cmsgs()?.find(|control| {
        use ControlMessageOwned::{Ipv4PacketInfo, Ipv6PacketInfo};
        matches!(control, Ipv4PacketInfo(_) | Ipv6PacketInfo(_))
    });
    let peer = message.address.and_then(|address| socket_address(&address));
    let peer = peer.ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    Ok(Received { length: message.bytes, peer, to })
}

impl Received {
    /// Sends `payload` back, from the address that the datagram was sent to. A failure is the sender's to notice.
    pub(crate) fn answer(&self, socket: &UdpSocket, payload: &[u8]) {
        let controls = match &self.to {
            Some(ControlMessageOwned::Ipv4PacketInfo(info)) => {
                vec![ControlMessage::Ipv4PacketInfo(info)]
            }
            Some(ControlMessageOwned::Ipv6PacketInfo(info)) => {
                vec![ControlMessage::Ipv6PacketInfo(info)]
            }
            _ => Vec::new(),
        };
        let _ = sendmsg(
            socket.as_raw_fd(),
            &[IoSlice::new(payload)],
            &controls,
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrStorage::from(self.peer)),
        );
    }
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port())))
}
