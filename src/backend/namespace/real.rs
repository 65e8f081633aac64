//! Listeners on the loopback of the machine that the launcher runs on: whatever reaches them, the bottle was not
//! fenced off from its real host. Nobody beyond this machine can reach them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};

use claude_bottle_protocol::witness::Transport;
use rand::RngExt as _;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::world::ports::DISCARD;

/// The ports from which a random one is taken: above those that Linux gives to clients (`ip_local_port_range`, 32768 to
/// 60999 in every new net namespace). A client in the bottle could have the very port that is dialled there otherwise:
/// it would take what is sent to it, and no refusal would ever come.
pub(in crate::backend) const RANDOM_PORTS: RangeInclusive<u16> = 61_000..=65_535;

/// How many ports are tried until one is free on every address.
const PORTS_TRIED: usize = 64;

/// Where is listened.
pub(in crate::backend) const ADDRESSES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// What is listened on.
#[derive(Debug, Default)]
pub(in crate::backend) struct RealLoopback {
    /// The listeners.
    pub(super) opened: Vec<Opened>,
    /// What could not be had, and why.
    pub(super) absent: Vec<Absent>,
}

/// A listener.
#[derive(Debug)]
pub(super) struct Opened {
    /// Its port's name.
    pub(super) port: &'static str,
    /// TCP or UDP.
    pub(super) transport: Transport,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The socket.
    pub(super) descriptor: OwnedFd,
}

/// A listener that could not be had.
#[derive(Debug, Clone)]
pub(super) struct Absent {
    /// Its port's name.
    pub(super) port: &'static str,
    /// TCP or UDP.
    pub(super) transport: Transport,
    /// Why.
    pub(super) why: String,
}

/// What a bottle holds as long as it lives. One that is in the real net namespace would reach the listeners of the
/// others, so it is alone, as far as this process goes.
#[expect(dead_code, reason = "held, not read")]
pub(in crate::backend) enum Share {
    /// Together with others.
    Shared(OwnedRwLockReadGuard<()>),
    /// Alone.
    Alone(OwnedRwLockWriteGuard<()>),
}

impl Share {
    /// Waits until such a bottle may be launched.
    pub(in crate::backend) async fn take(alone: bool) -> Self {
        static BOTTLES: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);
        let bottles = Arc::clone(&BOTTLES);
        if alone {
            Self::Alone(bottles.write_owned().await)
        } else {
            Self::Shared(bottles.read_owned().await)
        }
    }
}

impl RealLoopback {
    /// Listens on port 9, where this user may and nobody else does, and on one random port.
    ///
    /// A port that this machine does not give away is left out, with the reason; that it is out of descriptors or
    /// memory is an error.
    pub(in crate::backend) fn open() -> io::Result<Self> {
        let mut real = Self::default();
        let discard = match open_all("discard", DISCARD) {
            Ok(opened) => Ok(opened),
            Err(why) => Err(match why.kind() {
                io::ErrorKind::PermissionDenied => {
                    "listening on the real port 9 needs root or CAP_NET_BIND_SERVICE".to_owned()
                }
                io::ErrorKind::AddrInUse => "somebody else listens on the real port 9".to_owned(),
                _ if is_no_address(&why) => format!("cannot listen on the real port 9: {why}"),
                _ => return Err(why),
            }),
        };
        real.take("discard", discard);
        let open_random = || open_all("random", rand::rng().random_range(RANDOM_PORTS));
        let mut random = open_random();
        for _ in 1..PORTS_TRIED {
            if !matches!(&random, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
            random = open_random();
        }
        let random = match random {
            Err(why) if !is_no_address(&why) => return Err(why),
            random => random.map_err(|why| format!("cannot listen on the real loopback: {why}")),
        };
        real.take("random", random);
        Ok(real)
    }

    fn take(&mut self, port: &'static str, opened: Result<Vec<Opened>, String>) {
        match opened {
            Ok(opened) => self.opened.extend(opened),
            Err(why) => {
                for transport in [Transport::Tcp, Transport::Udp] {
                    self.absent.push(Absent { port, transport, why: why.clone() });
                }
            }
        }
    }
}

/// Listens on all of the loopback's addresses, on the port with this number. An address that this machine does not have (a kernel
/// without IPv6) is left out.
fn open_all(port: &'static str, number: u16) -> io::Result<Vec<Opened>> {
    let mut opened = Vec::new();
    for ip in ADDRESSES {
        for transport in [Transport::Tcp, Transport::Udp] {
            let (descriptor, address) = match open(transport, SocketAddr::new(ip, number)) {
                Ok(opened) => opened,
                Err(error) if is_no_address(&error) && ip != ADDRESSES[0] => continue,
                Err(error) => return Err(error),
            };
            opened.push(Opened { port, transport, address, descriptor });
        }
    }
    Ok(opened)
}

fn open(transport: Transport, address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    match transport {
        Transport::Tcp => {
            let listener = TcpListener::bind(address)?;
            let address = listener.local_addr()?;
            Ok((listener.into(), address))
        }
        Transport::Udp => {
            let socket = UdpSocket::bind(address)?;
            let address = socket.local_addr()?;
            Ok((socket.into(), address))
        }
        // Raw sockets are for the lab's own net namespaces alone, and Unix ones have no such address.
        Transport::Icmp | Transport::Packet | Transport::Unix | Transport::Vsock => {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

fn is_no_address(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EADDRNOTAVAIL | EAFNOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client of the bottle that happens to have the dialled port would take what is sent there.
    #[test]
    fn no_client_can_have_the_random_port() {
        let real = RealLoopback::open().unwrap();
        let random = real.opened.iter().filter(|opened| opened.port == "random");
        let ports: Vec<_> = random.map(|opened| opened.address.port()).collect();
        assert!(!ports.is_empty(), "{real:?}");
        assert!(ports.iter().all(|port| RANDOM_PORTS.contains(port)), "{ports:?}");
        assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }
}
