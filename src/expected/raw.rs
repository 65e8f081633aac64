//! What goes out below TCP and UDP: who may make such a socket, and who sees what leaves by it.

use std::net::SocketAddr;

use claude_bottle_protocol::helper::{Bottle, REAL};
use claude_bottle_protocol::prober::{How, Target};
use claude_bottle_protocol::witness::Transport;

use super::methods::{self, Fate};
use super::network::Network;
use super::outside::has;
use super::{Topology, names};

/// A ping socket (`icmp(7)`): the net's `ping_group_range` says which groups may.
pub(super) fn ping(topology: &Topology, target: &Target) -> Fate {
    let net = topology.lab.nets.iter().find(|net| net.name == topology.bottle.net);
    let range = net.and_then(|net| net.sysctls.get("ipv4/ping_group_range"));
    let groups: Vec<u32> =
        range.iter().flat_map(|range| range.split_whitespace()).flat_map(str::parse).collect();
    // The kernel's own choice, 1 to 0, is nobody. The lab knows one group, which is 0.
    if groups.first() != Some(&0) && topology.bottle.net != REAL {
        return denied("no group may make a ping socket in this net");
    }
    methods::dial(topology, Transport::Icmp, target)
}

/// A raw socket (`raw(7)`).
pub(super) fn packet(topology: &Topology, transport: Transport, target: &Target) -> Fate {
    if topology.bottle.net != REAL && !has(&topology.bottle, "NET_RAW") {
        return denied("no raw socket without CAP_NET_RAW");
    }
    methods::dial(topology, transport, target)
}

/// A datagram to a group, or a broadcast, on every interface.
pub(super) fn group(topology: &Topology, target: &Target) -> Fate {
    let net = &topology.bottle.net;
    if net == REAL {
        let way = "the bottle is in the real net, where nothing may be sent to everybody".into();
        return Fate::Fused { way };
    }
    let addresses = names::resolve(&target.host, &topology.bottle).into_iter();
    let network = Network::new(topology);
    let mut heard =
        addresses.flat_map(|ip| network.on_the_wires(net, SocketAddr::new(ip, target.port)));
    match heard.next() {
        Some((listener, way)) => Fate::Arrives { listener, way },
        None => Fate::Stays { how: How::Sent, way: format!("nobody on a wire of {net} hears it") },
    }
}

/// A connection over vsock to this machine's own loopback: no net namespace is asked.
pub(super) fn vsock(topology: &Topology, port: u32) -> Fate {
    if topology.bottle.seccomp {
        return denied("the filter on system calls refuses vsock");
    }
    match topology.lab.adopted_vsock.filter(|listener| listener.port == port) {
        Some(listener) => {
            let way = "vsock knows no net namespaces".into();
            Fate::Arrives { listener: listener.id, way }
        }
        None => Fate::Stays { how: How::Refused, way: "nobody listens there".into() },
    }
}

/// By which call a packet socket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// `socket(2)`, whose argument the filter looks at.
    Socket,
    /// `io_uring`, which it refuses, or knows nothing of.
    IoUring,
    /// That of 32-bit programs, for which it kills.
    ThirtyTwoBit,
}

/// A frame on every interface (`packet(7)`).
pub(super) fn frame(topology: &Topology, call: Call, target: &Target) -> Fate {
    let bottle = &topology.bottle;
    if bottle.net == REAL {
        let way = "the bottle is in the real net, where no frame may be sent".into();
        return Fate::Fused { way };
    }
    if let Some(why) = filtered(bottle, call) {
        return denied(why);
    }
    if !has(bottle, "NET_RAW") {
        return denied("no packet socket without CAP_NET_RAW");
    }
    if names::resolve(&target.host, bottle).is_empty() {
        let way = format!("no address for {} in the bottle", target.host);
        return Fate::Stays { how: How::NotResolved, way };
    }
    match (Network::new(topology).broadcast(&bottle.net, target.port), call) {
        (Some((_, way)), Call::ThirtyTwoBit) => {
            let way = format!("{way}, if the kernel serves 32-bit calls");
            Fate::MayArrive { how: How::SocketDenied, way }
        }
        (Some((listener, way)), _) => Fate::Arrives { listener, way },
        (None, _) => {
            let way = format!("nobody on a wire of {} looks at such frames", bottle.net);
            Fate::Stays { how: How::Sent, way }
        }
    }
}

/// How the filter on system calls refuses.
fn filtered(bottle: &Bottle, call: Call) -> Option<&'static str> {
    match call {
        _ if !bottle.seccomp => None,
        Call::Socket => Some("the filter on system calls refuses packet sockets"),
        Call::IoUring if bottle.io_uring => None,
        Call::IoUring => Some("the filter on system calls refuses io_uring"),
        Call::ThirtyTwoBit => Some("the filter on system calls kills for 32-bit ones"),
    }
}

fn denied(way: &str) -> Fate {
    Fate::Stays { how: How::SocketDenied, way: way.into() }
}
