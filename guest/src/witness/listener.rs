//! A witness's sockets.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use claude_bottle_protocol::witness::{
    Listener, Service, Transport, UnixListener as Wanted, UnixName,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::sockopt::{
    Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, RcvBuf, ReuseAddr,
};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};

use super::frames::Frames;
use super::raw::Raw;
use crate::failure::{Doing as _, Failure};
use crate::sys::{interface, multicast};

/// What a UDP listener may have pending, in bytes: more than any batch sends to one listener.
pub(super) const RECEIVE_BUFFER: usize = 1 << 20;

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Accepts connections, and answers them like this.
    Tcp(TcpListener, Service),
    /// Receives datagrams, and answers them like this.
    Udp(UdpSocket, Service),
    /// Accepts connections over a Unix socket.
    Unix(UnixListener),
    /// Accepts connections over vsock.
    Vsock(OwnedFd),
    /// Sees ICMP echo requests.
    Raw(Raw),
    /// Sees Ethernet frames, for several listeners.
    Frames(Frames),
}

impl Socket {
    /// Opens what `wanted` asks for, in the caller's current net namespace.
    ///
    /// A wildcard IPv6 address takes IPv4 as well (`IPV6_V6ONLY` off); a literal one takes only itself.
    pub(crate) fn open(wanted: &Listener) -> Result<Self, Failure> {
        let Listener { transport, address, service, .. } = wanted;
        let what = || format!("listen on {transport} {address}");
        if *transport == Transport::Icmp {
            return Raw::open(*address).doing(what).map(Self::Raw);
        }
        let is_udp = is_udp(wanted)?;
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let kind = if is_udp { SockType::Datagram } else { SockType::Stream };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, kind, flags, None).doing(what)?;
        if address.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &!address.ip().is_unspecified()).doing(what)?;
        }
        if is_udp {
            Self::prepare_udp(&fd, *address).doing(what)?;
        } else {
            setsockopt(&fd, ReuseAddr, &true).doing(what)?;
        }
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(*address)).doing(what)?;
        if is_udp {
            Self::join(&fd, *address).doing(what)?;
            return Ok(Self::Udp(fd.into(), *service));
        }
        listen(&fd, Backlog::MAXCONN).doing(what)?;
        Ok(Self::Tcp(fd.into(), *service))
    }

    /// Opens what takes the frames that any of `wanted` asks for, in the caller's current net namespace.
    pub(crate) fn open_frames(wanted: &[&Listener]) -> Result<Self, Failure> {
        Frames::open(wanted).doing(|| "listen for frames".into()).map(Self::Frames)
    }

    /// Opens a Unix socket, in the caller's current net and mount namespaces.
    pub(crate) fn open_unix(wanted: &Wanted) -> Result<Self, Failure> {
        let what = || format!("listen on {}", wanted.name);
        let listener = match &wanted.name {
            UnixName::Abstract(name) => {
                UnixAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name))
            }
            UnixName::Path(path) => UnixListener::bind(path),
        }
        .doing(what)?;
        listener.set_nonblocking(true).doing(what)?;
        Ok(Self::Unix(listener))
    }

    /// Takes over a Unix socket that was opened elsewhere as `wanted` says.
    pub(crate) fn adopt_unix(wanted: &Wanted, descriptor: OwnedFd) -> Result<Self, Failure> {
        let listener = UnixListener::from(descriptor);
        listener.set_nonblocking(true).doing(|| format!("take over {}", wanted.name))?;
        Ok(Self::Unix(listener))
    }

    /// Takes over a vsock listener that was opened elsewhere.
    pub(crate) fn adopt_vsock(listener: OwnedFd) -> Result<Self, Failure> {
        let what = || "take over a vsock listener".to_owned();
        fcntl(&listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).doing(what)?;
        Ok(Self::Vsock(listener))
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

    /// Where the address is a group's: becomes a member of it on every interface.
    fn join(fd: &OwnedFd, address: SocketAddr) -> std::io::Result<()> {
        let SocketAddr::V4(group) = address else { return Ok(()) };
        if !group.ip().is_multicast() {
            return Ok(());
        }
        for name in interface::names()? {
            let index = nix::net::if_::if_nametoindex(name.as_str())?;
            multicast::join(fd.as_fd(), *group.ip(), index)?;
        }
        Ok(())
    }

    /// Takes over a socket that was opened elsewhere as `wanted` says.
    pub(crate) fn adopt(wanted: &Listener, descriptor: OwnedFd) -> Result<Self, Failure> {
        let what = || format!("take over {} {}", wanted.transport, wanted.address);
        if is_udp(wanted)? {
            let socket = UdpSocket::from(descriptor);
            socket.set_nonblocking(true).doing(what)?;
            return Ok(Self::Udp(socket, wanted.service));
        }
        let listener = TcpListener::from(descriptor);
        listener.set_nonblocking(true).doing(what)?;
        Ok(Self::Tcp(listener, wanted.service))
    }

    /// Who listens with it, and where, as far as there is an address: the listener that it was opened as, or several.
    pub(crate) fn listeners(&self, id: u32) -> Result<Vec<(u32, Option<SocketAddr>)>, Failure> {
        match self {
            Self::Frames(socket) => {
                Ok(socket.listeners().iter().map(|(id, address)| (*id, Some(*address))).collect())
            }
            _ => Ok(vec![(id, self.address()?)]),
        }
    }

    /// The address it is bound to, port known; none for a Unix socket, and where there is not just one.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>, Failure> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr().map(Some),
            Self::Udp(socket, _) => socket.local_addr().map(Some),
            Self::Unix(_) | Self::Vsock(_) | Self::Frames(_) => Ok(None),
            Self::Raw(socket) => Ok(Some(socket.address())),
        }
        .doing(|| "read a listener's address".into())
    }
}

/// Whether UDP is wanted, and not TCP.
fn is_udp(wanted: &Listener) -> Result<bool, Failure> {
    match wanted.transport {
        Transport::Tcp => Ok(false),
        Transport::Udp => Ok(true),
        Transport::Icmp | Transport::Packet => {
            Err(Failure::new("listen by a raw socket where TCP or UDP is needed"))
        }
        Transport::Unix | Transport::Vsock => {
            Err(Failure::new("listen on a socket of another family at an internet address"))
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd(),
            Self::Udp(socket, _) => socket.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
            Self::Vsock(listener) => listener.as_fd(),
            Self::Raw(socket) => socket.as_fd(),
            Self::Frames(socket) => socket.as_fd(),
        }
    }
}
