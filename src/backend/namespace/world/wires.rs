//! Net namespaces, the wires between them, addresses and routes of a sound lab.

use std::net::IpAddr;

use claude_bottle_protocol::helper::{Address, End, Lab, Link, Net, Route};

use super::map::{self, wire_v6};
use super::net;
use crate::backend::namespace::real::RANDOM_PORTS;

/// The lab around a sound bottle, without listeners.
pub(super) fn lay() -> Lab {
    Lab {
        nets: vec![bottle(), bundle(), host(), neighbour(), world()],
        links: vec![
            link((net::BOTTLE, "eth0"), (net::BUNDLE, "agent0")),
            link((net::BUNDLE, "uplink0"), (net::HOST, "bundle0")),
            link((net::NEIGHBOUR, "eth0"), (net::HOST, "other0")),
            link((net::HOST, "wan0"), (net::WORLD, "lan0")),
        ],
        ..Lab::default()
    }
}

/// A bottle and its bundle on a wire; the bundle has no other.
pub(super) fn lay_for_work() -> Lab {
    let bundle = Net {
        name: net::BUNDLE.into(),
        addresses: vec![address("agent0", map::BUNDLE, 32)],
        routes: vec![route((map::BOTTLE, 32), None, "agent0")],
        ..Net::default()
    };
    Lab {
        nets: vec![bottle(), bundle],
        links: vec![link((net::BOTTLE, "eth0"), (net::BUNDLE, "agent0"))],
        ..Lab::default()
    }
}

/// One route, to the bundle's address; no IPv6.
fn bottle() -> Net {
    Net {
        name: net::BOTTLE.into(),
        addresses: vec![address("eth0", map::BOTTLE, 32)],
        routes: vec![route((map::BUNDLE, 32), None, "eth0")],
        ..Net::default()
    }
}

fn bundle() -> Net {
    Net {
        name: net::BUNDLE.into(),
        ipv6: true,
        addresses: vec![
            address("agent0", map::BUNDLE, 32),
            address("uplink0", map::BUNDLE_UPLINK, 24),
            address("agent0", wire_v6(0, 1), 64),
            address("uplink0", wire_v6(1, 2), 64),
        ],
        routes: vec![
            route((map::BOTTLE, 32), None, "agent0"),
            route(map::ANYWHERE, Some(map::HOST_GATEWAY), "uplink0"),
            route(map::ANYWHERE_V6, Some(wire_v6(1, 1)), "uplink0"),
        ],
        ..Net::default()
    }
}

/// It forwards for bundle and neighbour, as a host of containers does.
fn host() -> Net {
    Net {
        name: net::HOST.into(),
        ipv6: true,
        forward: true,
        addresses: vec![
            address("bundle0", map::HOST_GATEWAY, 24),
            address("other0", map::NEIGHBOUR_GATEWAY, 24),
            address("wan0", map::HOST_LAN, 24),
            address("bundle0", wire_v6(1, 1), 64),
            address("wan0", wire_v6(2, 2), 64),
            address("bundle0", map::HOST_ON_LINK, 64),
            address("other0", map::HOST_ON_LINK, 64),
            address("wan0", map::HOST_ON_LINK, 64),
            address("lo", map::DOCKER_DESKTOP, 32),
            address("lo", map::PUBLISHED, 32),
        ],
        routes: vec![
            route(map::ANYWHERE, Some(map::WORLD_LAN), "wan0"),
            route(map::ANYWHERE_V6, Some(wire_v6(2, 1)), "wan0"),
        ],
        // Where its listeners' random ports come from: from none that a client in the bottle could have.
        sysctls: [("ipv4/ip_local_port_range".to_owned(), random_ports())].into(),
        ..Net::default()
    }
}

fn neighbour() -> Net {
    Net {
        name: net::NEIGHBOUR.into(),
        addresses: vec![address("eth0", map::NEIGHBOUR, 24)],
        routes: vec![route(map::ANYWHERE, Some(map::NEIGHBOUR_GATEWAY), "eth0")],
        ..Net::default()
    }
}

/// The world has every address that a bottle might try.
fn world() -> Net {
    let servers = [map::INTERNET, map::INTERNET_V6, map::PRIVATE, map::NAT64, map::METADATA];
    let mut addresses =
        vec![address("lan0", map::WORLD_LAN, 24), address("lan0", wire_v6(2, 1), 64)];
    addresses.push(address("lo", map::RESOLVERS[0], map::bits(map::RESOLVERS[0])));
    addresses.extend(servers.into_iter().flatten().map(|ip| address("lo", *ip, map::bits(*ip))));
    let to_bridge = |bridge: &(IpAddr, u8)| route(*bridge, Some(map::HOST_LAN), "lan0");
    let mut routes: Vec<_> = map::BRIDGES.iter().map(to_bridge).collect();
    for on_host in [map::DOCKER_DESKTOP, map::PUBLISHED] {
        routes.push(route((on_host, 32), Some(map::HOST_LAN), "lan0"));
    }
    routes.push(route(map::LAB_V6, Some(wire_v6(2, 2)), "lan0"));
    // Only a router says that there is no way; another host drops what is not for it.
    Net { name: net::WORLD.into(), ipv6: true, forward: true, addresses, routes, ..Net::default() }
}

fn random_ports() -> String {
    format!("{} {}", RANDOM_PORTS.start(), RANDOM_PORTS.end())
}

pub(super) fn link(a: (&str, &str), b: (&str, &str)) -> Link {
    let end = |(net, interface): (&str, &str)| End { net: net.into(), interface: interface.into() };
    Link { a: end(a), b: end(b) }
}

pub(super) fn address(interface: &str, address: IpAddr, prefix: u8) -> Address {
    Address { interface: interface.into(), address, prefix }
}

pub(super) fn route(to: (IpAddr, u8), via: Option<IpAddr>, interface: &str) -> Route {
    let (destination, prefix) = to;
    Route { destination, prefix, via, interface: interface.into() }
}
