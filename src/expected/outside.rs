//! What the outside sees of attempts that no witness could: one arm for each thing that is looked at.

use claude_bottle_protocol::helper::{Bottle, Placed, REAL};
use claude_bottle_protocol::prober::{Action, How, Sweep};
use claude_bottle_protocol::witness::Transport;

use super::network::Network;
use super::{Topology, names};
use crate::probe::outside::Look;

/// What looking shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// That something got through.
    Shows {
        /// How it did.
        why: String,
    },
    /// Nothing.
    Nothing {
        /// How it looks to the client.
        how: How,
        /// What kept it in.
        why: String,
    },
    /// Nothing, unless the prober takes what it does itself for it.
    Unsure {
        /// How it looks to the client.
        how: How,
        /// What kept it in.
        why: String,
    },
    /// There is no looking.
    Blind {
        /// What cannot be looked at.
        why: String,
    },
    /// The simulator does not know this.
    Unknown,
}

fn shows(why: impl Into<String>) -> Sight {
    Sight::Shows { why: why.into() }
}

fn nothing(how: How, why: impl Into<String>) -> Sight {
    Sight::Nothing { how, why: why.into() }
}

/// What the outside sees of `action` by looking so.
pub(super) fn fate(action: &Action, look: Look, topology: &Topology) -> Sight {
    let bottle = &topology.bottle;
    if bottle.net == REAL && look != Look::HostListeners {
        let why = "the bottle is in the real net, which is not looked at";
        return Sight::Blind { why: why.into() };
    }
    match (action, look) {
        (Action::Reconfigure(_), Look::Change(_)) => reconfigure(bottle),
        (Action::Sweep(Sweep { host, except }), Look::BundleListeners) => {
            sweep(topology, host, except)
        }
        (Action::Unshare, Look::Strays) => unshare(topology),
        (Action::ForeignSockets, Look::Sockets) if bottle.seccomp => {
            nothing(How::SocketDenied, "the filter on system calls refuses other families")
        }
        (Action::ForeignSockets, Look::Sockets) => shows("no filter refuses other families"),
        (Action::Listen, Look::HostListeners) => {
            if bottle.net == topology.host {
                return shows(format!("the bottle listens in {}", topology.host));
            }
            nothing(How::Sent, format!("the bottle listens in {}", bottle.net))
        }
        (Action::Listen, Look::Inbound) => inbound(topology),
        _ => Sight::Unknown,
    }
}

/// `rtnetlink(7)`: changes need `CAP_NET_ADMIN` over the net namespace.
fn reconfigure(bottle: &Bottle) -> Sight {
    if has(bottle, "NET_ADMIN") {
        return shows(format!("with CAP_NET_ADMIN over {}", bottle.net));
    }
    nothing(How::Prohibited, "without CAP_NET_ADMIN")
}

/// Whatever listens beside an allowed listener, on other than its own loopback.
fn sweep(topology: &Topology, host: &str, except: &[u16]) -> Sight {
    let listeners = &topology.lab.listeners;
    let allowed = listeners.iter().filter(|one| topology.allowed.contains(&one.listener.id));
    let nets: Vec<_> = allowed.map(|placed| placed.net.as_str()).collect();
    let stray = listeners.iter().find(|Placed { net, listener, .. }| {
        let has_ports = matches!(listener.transport, Transport::Tcp | Transport::Udp);
        let address = listener.address;
        nets.contains(&net.as_str())
            && has_ports
            && !address.ip().is_loopback()
            && !except.contains(&address.port())
    });
    if let Some(Placed { net, listener, .. }) = stray {
        return shows(format!("{net} listens on {} {}", listener.transport, listener.address));
    }
    let Some(ip) = names::resolve(host, &topology.bottle).into_iter().next() else {
        return nothing(How::NotResolved, format!("no address for {host} in the bottle"));
    };
    // Any port that nobody listens on.
    let course = Network::new(topology).send(&topology.bottle.net, Transport::Tcp, (ip, 1).into());
    let (how, why) = (course.how, course.way.to_string());
    // Another attempt listens for a while, on every address of the net that it is in.
    if nets.contains(&topology.bottle.net.as_str()) {
        return Sight::Unsure { how, why };
    }
    nothing(how, why)
}

/// Two locks: the filter on system calls; and a limit of the bottle's own user namespace, which it has unless it keeps
/// capabilities.
fn unshare(topology: &Topology) -> Sight {
    let bottle = &topology.bottle;
    if topology.default_profile && !has(bottle, "SYS_ADMIN") {
        return nothing(How::Prohibited, "the engine's filter on system calls refuses it");
    }
    let filtered = bottle.seccomp && !bottle.user_namespaces;
    let limited = bottle.capabilities.is_empty() && !bottle.user_namespaces;
    match (filtered, limited) {
        (false, false) => shows("neither a filter nor a limit keeps it from user namespaces"),
        (true, _) => nothing(How::Prohibited, "the filter on system calls refuses new namespaces"),
        (_, true) => nothing(How::Prohibited, "no more user namespaces are allowed"),
    }
}

fn inbound(topology: &Topology) -> Sight {
    let Some(inbound) = &topology.inbound else {
        return Sight::Blind { why: "nobody dials in".into() };
    };
    let (network, bottle) = (Network::new(topology), &topology.bottle.net);
    let addresses = network.global_addresses(bottle);
    let ways = |place: &str| {
        let place = place.to_owned();
        addresses.iter().find_map(move |address| network.gets_in(&place, bottle, *address))
    };
    if let Some(way) = inbound.from.iter().find_map(|place| ways(place)) {
        return shows(way);
    }
    if ways(&inbound.control).is_none() {
        return Sight::Blind { why: format!("not even {} gets in", inbound.control) };
    }
    nothing(How::Unreachable, format!("none of {} gets in", inbound.from.join(", ")))
}

/// Whether commands in the bottle keep this capability.
pub(super) fn has(bottle: &Bottle, capability: &str) -> bool {
    bottle.capabilities.iter().any(|own| own == capability)
}
