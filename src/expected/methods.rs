//! What each method of an attempt comes to: one arm each.

use std::net::SocketAddr;

use claude_bottle_protocol::helper::REAL;
use claude_bottle_protocol::prober::{Action, How, Target};
use claude_bottle_protocol::witness::Transport;

use super::network::Network;
use super::raw::{self, Call};
use super::{Topology, escape, names};

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
    match action {
        // A peer that speaks neither TCP Fast Open nor MPTCP is reached by ordinary TCP.
        Action::Tcp(target) | Action::TcpFastOpen(target) | Action::Mptcp(target) => {
            dial(topology, Transport::Tcp, target)
        }
        Action::Udp(target) | Action::UdpUnconnected(target) => {
            dial(topology, Transport::Udp, target)
        }
        Action::PingSocket(target) => raw::ping(topology, target),
        Action::RawIcmp(target) => raw::packet(topology, Transport::Icmp, target),
        Action::RawUdp(target) => raw::packet(topology, Transport::Udp, target),
        Action::Frame(target) | Action::ForgedArp(target) => {
            raw::frame(topology, Call::Socket, target)
        }
        Action::UringFrame(target) => raw::frame(topology, Call::IoUring, target),
        Action::Frame32(target) => raw::frame(topology, Call::ThirtyTwoBit, target),
        Action::EnterNamespace(target) => escape::enter(topology, target),
        Action::StealSocket(target) => escape::steal(topology, target),
        _ => Fate::Unknown,
    }
}

/// Each address is tried until one answers.
pub(super) fn dial(topology: &Topology, transport: Transport, target: &Target) -> Fate {
    let network = Network::new(topology);
    let addresses = names::resolve(&target.host, &topology.bottle);
    let mut arrived = None;
    let (mut last, mut ways) = (How::NotResolved, Vec::new());
    for ip in addresses {
        if topology.bottle.net == REAL && !ip.is_loopback() {
            let way = format!(
                "the bottle is in the real net: nothing but loopback may be dialled, not {ip}"
            );
            return Fate::Fused { way };
        }
        let course =
            network.send(&topology.bottle.net, transport, SocketAddr::new(ip, target.port));
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
        None if ways.is_empty() => {
            Fate::Stays { how: last, way: format!("no address for {} in the bottle", target.host) }
        }
        None => Fate::Stays { how: last, way: ways.join("; ") },
    }
}
