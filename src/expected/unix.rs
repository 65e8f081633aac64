//! Unix sockets: abstract names belong to a net namespace, paths to a file system (`unix(7)`).

use std::net::SocketAddr;

use claude_bottle_protocol::helper::{Lab, REAL};
use claude_bottle_protocol::prober::How;
use claude_bottle_protocol::witness::{Service, Transport, UnixListener, UnixName};

use super::methods::Fate;
use super::network::Network;
use super::{Topology, proxied};
use crate::lab::{Address, Listening};

/// Connect to an abstract name.
pub(super) fn abstract_name(topology: &Topology, name: &str) -> Fate {
    let net = &topology.bottle.net;
    match listener(&topology.lab, net, |own| *own == UnixName::Abstract(name.to_owned())) {
        Some(id) => Fate::Arrives { listener: id, way: format!("it is in {net} as well") },
        None => Fate::Stays { how: How::Refused, way: format!("nobody in {net} has that name") },
    }
}

/// Connect to every socket in the bottle's file system: what is mounted there, since nothing else is.
pub(super) fn paths(topology: &Topology) -> Fate {
    let mounted = topology.bottle.mounts.iter().find_map(|mount| {
        let sockets = topology.lab.sockets.iter().map(|placed| &placed.listener);
        let path = UnixName::Path(mount.source.clone());
        let listener = sockets.into_iter().find(|listener| listener.name == path)?.id;
        Some(Fate::Arrives { listener, way: format!("mounted as {}", mount.target) })
    });
    let none = || Fate::Stays { how: How::Unreachable, way: "none is mounted".into() };
    mounted.unwrap_or_else(none)
}

/// The listener in `net` with such a name.
fn listener(lab: &Lab, net: &str, is_wanted: impl Fn(&UnixName) -> bool) -> Option<u32> {
    let placed = lab.sockets.iter().filter(|placed| placed.net == net);
    let adopted = lab.adopted_sockets.iter().filter(|_| net == REAL);
    let mut all = placed.map(|placed| &placed.listener).chain(adopted);
    all.find(|UnixListener { name, .. }| is_wanted(name)).map(|listener| listener.id)
}

/// Whether a control for `listening` gets there.
pub(super) fn control_arrives(topology: &Topology, listening: &Listening) -> bool {
    let Listening { id, control, control_dials, transport, service, .. } = listening;
    let got = match control_dials {
        Address::Inet(address) if *service == Service::Segment => {
            let heard = Network::new(topology).on_the_wires(control, *address);
            heard.into_iter().map(|(listener, _)| listener).find(|heard| heard == id)
        }
        Address::Inet(address) => inet_control(topology, control, *transport, *address),
        Address::Abstract(name) => {
            listener(&topology.lab, control, |own| *own == UnixName::Abstract(name.clone()))
        }
        Address::Vsock(port) => {
            let adopted = topology.lab.adopted_vsock.filter(|_| control == REAL);
            adopted.filter(|listener| listener.port == *port).map(|listener| listener.id)
        }
        Address::Gateway(asked) => proxied::carried_on(asked, control, topology),
        Address::File { path, .. } => {
            listener(&topology.lab, control, |own| *own == UnixName::Path(path.clone()))
        }
    };
    got == Some(*id)
}

fn inet_control(
    topology: &Topology,
    from: &str,
    transport: Transport,
    to: SocketAddr,
) -> Option<u32> {
    let network = Network::new(topology);
    match transport {
        Transport::Packet => network.broadcast(from, to.port()).map(|(listener, _)| listener),
        _ => network.send(from, transport, to).listener,
    }
}
