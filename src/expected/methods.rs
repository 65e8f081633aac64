//! What each method of an attempt comes to: one arm each.

use std::net::SocketAddr;

use claude_bottle_protocol::helper::REAL;
use claude_bottle_protocol::prober::{Action, How, Lookup, Request, Server, Target};
use claude_bottle_protocol::witness::Transport;

use super::network::Network;
use super::raw::{self, Call};
use super::{Topology, escape, lookup, monitor, names, proxied, unix};

/// What becomes of what an attempt sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// A witness sees its nonce.
    Arrives {
        /// The listener.
        listener: u32,
        /// The way, in words.
        way: String,
    },
    /// Nobody does.
    Stays {
        /// How it looks to the client.
        how: How,
        /// Where it ends, in words.
        way: String,
    },
    /// That is a matter of timing.
    MayArrive {
        /// How it looks to the client otherwise.
        how: How,
        /// The way, in words.
        way: String,
    },
    /// It is not made: the prober is where it may not dial.
    Fused {
        /// What it may not dial.
        way: String,
    },
    /// The simulator does not know this method.
    Unknown,
}

/// The fate of what the prober does in the bottle.
pub(super) fn fate(action: &Action, topology: &Topology) -> Fate {
    if let Some(fate) = monitor::stays_inside(action, topology) {
        return fate;
    }
    match action {
        // A peer that speaks neither TCP Fast Open nor MPTCP is reached by ordinary TCP.
        Action::Tcp(target) | Action::TcpFastOpen(target) | Action::Mptcp(target) => {
            dial(topology, Transport::Tcp, target)
        }
        Action::Http(Request { target, .. }) => dial(topology, Transport::Tcp, target),
        Action::Udp(target) | Action::UdpUnconnected(target) => {
            dial(topology, Transport::Udp, target)
        }
        Action::Multicast(target) => raw::group(topology, target),
        Action::PingSocket(target) => raw::ping(topology, target),
        Action::RawIcmp(target) => raw::packet(topology, Transport::Icmp, target),
        Action::RawUdp(target) => raw::packet(topology, Transport::Udp, target),
        Action::Frame(target) | Action::ForgedArp(target) => {
            raw::frame(topology, Call::Socket, target)
        }
        Action::UringFrame(target) => raw::frame(topology, Call::IoUring, target),
        Action::Frame32(target) => raw::frame(topology, Call::ThirtyTwoBit, target),
        Action::DnsUdp(asked) => lookup::fate(topology, Transport::Udp, asked),
        Action::DnsTcp(asked) => lookup::fate(topology, Transport::Tcp, asked),
        Action::UnixAbstract(name) => unix::abstract_name(topology, name),
        Action::UnixPath(_) => unix::paths(topology),
        Action::InheritedTcp(wanted) => escape::inherit(topology, Transport::Tcp, &wanted.target),
        Action::InheritedUdp(wanted) => escape::inherit(topology, Transport::Udp, &wanted.target),
        Action::EstablishedTcp(wanted) => escape::established(topology, &wanted.target),
        Action::Vsock(port) => raw::vsock(topology, *port),
        Action::EnterNamespace(target) => escape::enter(topology, target),
        Action::StealSocket(target) => escape::steal(topology, target),
        Action::Proxied(asked) => proxied::fate(asked, topology),
        _ => Fate::Unknown,
    }
}

/// Each address of the target is tried until one answers.
pub(super) fn dial(topology: &Topology, transport: Transport, target: &Target) -> Fate {
    let addresses = names::resolve(&target.host, &topology.bottle);
    let addresses: Vec<_> =
        addresses.into_iter().map(|ip| SocketAddr::new(ip, target.port)).collect();
    if addresses.is_empty() {
        let way = format!("no address for {} in the bottle", target.host);
        return Fate::Stays { how: How::NotResolved, way };
    }
    dial_each(topology, transport, &addresses)
}

/// Each of at least one address is tried until one answers.
pub(super) fn dial_each(
    topology: &Topology,
    transport: Transport,
    addresses: &[SocketAddr],
) -> Fate {
    let network = Network::new(topology);
    let mut arrived = None;
    let (mut last, mut ways) = (How::NotResolved, Vec::new());
    for address in addresses {
        let ip = address.ip();
        if topology.bottle.net == REAL && !ip.is_loopback() {
            let why = "the bottle is in the real net: nothing but loopback may be dialled, not";
            return Fate::Fused { way: format!("{why} {ip}") };
        }
        let course = network.send(&topology.bottle.net, transport, *address);
        if let Some(listener) = course.listener {
            arrived.get_or_insert((listener, course.way.to_string()));
        }
        if course.how == How::Answered {
            break;
        }
        last = course.how;
        ways.push(course.way.to_string());
    }
    ways.dedup();
    match arrived {
        Some((listener, way)) => Fate::Arrives { listener, way },
        None => Fate::Stays { how: last, way: ways.join("; ") },
    }
}

/// The listeners to which `action` leaves connections half open. What their kernels throw away then shows as loss.
pub(super) fn half_open(action: &Action, topology: &Topology) -> Vec<u32> {
    let (Action::Tcp(target)
    | Action::TcpFastOpen(target)
    | Action::Mptcp(target)
    | Action::Http(Request { target, .. })
    | Action::DnsTcp(Lookup { server: Server::At(target), .. })) = action
    else {
        return Vec::new();
    };
    let addresses = names::resolve(&target.host, &topology.bottle).into_iter();
    let network = Network::new(topology);
    let send = |ip| {
        let address = SocketAddr::new(ip, target.port);
        network.send(&topology.bottle.net, Transport::Tcp, address).half_open
    };
    addresses.filter_map(send).collect()
}
