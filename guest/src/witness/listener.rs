//! A witness's sockets.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use claude_bottle_protocol::witness::{Listener, Transport};
use nix::sys::socket::sockopt::{
    Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, RcvBuf, ReuseAddr,
};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};

use super::raw::Raw;
use crate::failure::{Doing as _, Failure};

/// What a UDP listener may have pending, in bytes: more than any batch sends to one listener.
pub(super) const RECEIVE_BUFFER: usize = 1 << 20;

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Accepts connections.
    Tcp(TcpListener),
    /// Receives datagrams.
    Udp(UdpSocket),
    /// Sees what has no port.
    Raw(Raw),
}

impl Socket {
    /// Opens what `wanted` asks for, in the caller's current net namespace.
    ///
    /// A wildcard IPv6 address takes IPv4 as well (`IPV6_V6ONLY` off); a literal one takes only itself.
    pub(crate) fn open(wanted: &Listener) -> Result<Self, Failure> {
        let Listener { transport, address, .. } = wanted;
        let what = || format!("listen on {transport} {address}");
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let kind = match transport {
            Transport::Tcp => SockType::Stream,
            Transport::Udp => SockType::Datagram,
            Transport::Icmp | Transport::Packet => {
                return Raw::open(*transport, *address).doing(what).map(Self::Raw);
            }
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, kind, flags, None).doing(what)?;
        if address.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &!address.ip().is_unspecified()).doing(what)?;
        }
        match transport {
            Transport::Udp => Self::prepare_udp(&fd, *address).doing(what)?,
            _ => setsockopt(&fd, ReuseAddr, &true).doing(what)?,
        }
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(*address)).doing(what)?;
        Ok(match transport {
            Transport::Udp => Self::Udp(fd.into()),
            _ => {
                listen(&fd, Backlog::MAXCONN).doing(what)?;
                Self::Tcp(fd.into())
            }
        })
    }

    /// Answers must leave from the address that the datagram was sent to, hence the packet information.
    fn prepare_udp(fd: &OwnedFd, address: SocketAddr) -> nix::Result<()> {
        // The kernel's own limit (`net.core.rmem_max`) may give less; losses are counted in any case.
        setsockopt(fd, RcvBuf, &RECEIVE_BUFFER)?;
        if address.is_ipv6() {
            setsockopt(fd, Ipv6RecvPacketInfo, &true)
        } else {
            setsockopt(fd, Ipv4PacketInfo, &true)
        }
    }

    /// Takes over a socket that was opened elsewhere as `wanted` says.
    pub(crate) fn adopt(wanted: &Listener, descriptor: OwnedFd) -> Result<Self, Failure> {
        let what = || format!("take over {} {}", wanted.transport, wanted.address);
        Ok(match wanted.transport {
            Transport::Tcp => {
                let listener = TcpListener::from(descriptor);
                listener.set_nonblocking(true).doing(what)?;
                Self::Tcp(listener)
            }
            Transport::Udp => {
                let socket = UdpSocket::from(descriptor);
                socket.set_nonblocking(true).doing(what)?;
                Self::Udp(socket)
            }
            Transport::Icmp | Transport::Packet => {
                return Err(Failure::new(format!(
                    "{}: only TCP and UDP are opened elsewhere",
                    what()
                )));
            }
        })
    }

    /// The address it is bound to, port known.
    pub(crate) fn address(&self) -> Result<SocketAddr, Failure> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
            Self::Raw(socket) => Ok(socket.address()),
        }
        .doing(|| "read a listener's address".into())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::Raw(socket) => socket.as_fd(),
        }
    }
}
