//! Look-ups of names that carry the nonce: whoever hands one on delivers it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use claude_bottle_protocol::helper::REAL;
use claude_bottle_protocol::prober::{How, Lookup, Server};
use claude_bottle_protocol::witness::Transport;

use super::methods::{Fate, dial_each};
use super::{Topology, names};

/// The port of DNS (RFC 1035 §4.2).
const PORT: u16 = 53;

/// Ask each server; the name is the nonce's, so whichever witness is asked in the end sees it.
pub(super) fn fate(topology: &Topology, transport: Transport, lookup: &Lookup) -> Fate {
    let bottle = &topology.bottle;
    if bottle.net == REAL {
        let way = "the bottle is in the real net: nobody may be asked there, not even on loopback";
        return Fate::Fused { way: way.into() };
    }
    let servers: Vec<SocketAddr> = match &lookup.server {
        Server::At(target) => names::resolve(&target.host, bottle)
            .into_iter()
            .map(|ip| SocketAddr::new(ip, target.port))
            .collect(),
        // `resolv.conf(5)`: without any, the one on the local machine.
        Server::Configured if bottle.nameservers.is_empty() => {
            vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT)]
        }
        Server::Configured => {
            bottle.nameservers.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect()
        }
    };
    if servers.is_empty() {
        return Fate::Stays { how: How::NotResolved, way: "there is nobody to ask".into() };
    }
    dial_each(topology, transport, &servers)
}
