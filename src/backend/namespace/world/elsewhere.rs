//! The same world around a bottle and a bundle that somebody else makes: the engine of another backend, on the host.

mod drawn;

use std::net::{IpAddr, Ipv4Addr};

use claude_bottle_protocol::helper::{Forwarder, Lab, Net, Placed};
use ipnet::{Ipv4Net, Ipv6Net};

pub(in crate::backend) use self::drawn::Drawn;
use super::gateway::LabGateway;
use super::posts::Post;
use super::wires::route;
use super::{World, inbound, map, net, sockets};
use crate::backend::namespace::helper::Built;
use crate::lab::{Inbound, Sites};
use crate::probe::definition::Site;

/// The port of DNS (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;
/// What the host's sockets are in, instead of the folder that an engine needs.
const FOLDER: &str = "/mnt";
/// Why the sites of the real host are not served: an engine's bottle is never in the launcher's namespaces.
const NOT_REAL: &str = "the engine has a host of its own, which is the lab's";

/// Where the engine's bottle is.
#[derive(Debug, Clone)]
pub(in crate::backend) struct Place {
    /// The bundle's address.
    pub(in crate::backend) bundle: IpAddr,
    /// The host's address on the bottle's bridge.
    pub(in crate::backend) gateway: IpAddr,
    /// The host's address on the engine's default bridge.
    pub(in crate::backend) default_bridge: IpAddr,
    /// The addresses of the other bottle; none without one.
    pub(in crate::backend) other_bottle: Vec<IpAddr>,
    /// The bundle's real gateway, if it has one.
    pub(in crate::backend) way_out: Option<LabGateway>,
    /// Whether the egress daemon listens on every address of the bundle.
    pub(in crate::backend) egress_everywhere: bool,
    /// Whether something that no plan has listens in the bundle.
    pub(in crate::backend) stray_port: bool,
    /// The address, on a virtual machine's own network, at which its monitor hands on to the host's loopback.
    pub(in crate::backend) monitor: Option<IpAddr>,
}

/// Processes whose net namespaces listeners are opened in, by their ids as the engine's host counts.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend) struct Processes {
    /// The agent.
    pub(in crate::backend) bottle: u32,
    /// Its bundle.
    pub(in crate::backend) bundle: u32,
    /// The other bottle's agent, if there is another bottle.
    pub(in crate::backend) other_bottle: Option<u32>,
    /// The engine.
    pub(in crate::backend) engine: u32,
}

/// The world around an engine.
#[derive(Debug, Clone)]
pub(in crate::backend) struct Elsewhere(World);

impl Elsewhere {
    /// The world without a bottle.
    pub(in crate::backend) fn new() -> Self {
        let mut world = World::plan("", None);
        world.vacate();
        let wired = |interface: &str| interface != "bundle0";
        let host = world.net(net::HOST);
        host.addresses.retain(|address| wired(&address.interface));
        host.routes.retain(|route| wired(&route.interface));
        // The way back, whether or not the engine puts the host's address on what leaves it.
        for bridge in [(Ipv4Addr::new(10, 210, 0, 0), 16), (Ipv4Addr::new(172, 17, 0, 0), 16)] {
            let bridge = (bridge.0.into(), bridge.1);
            world.net(net::WORLD).routes.push(route(bridge, Some(map::HOST_LAN), "lan0"));
        }
        world.sockets.move_to(FOLDER);
        world.sockets.leave_real(NOT_REAL);
        world.vsock.leave(NOT_REAL);
        world.lab.sockets = world.sockets.placed();
        world.lab.folder = Some(FOLDER.into());
        Self(world)
    }

    /// The net that the engine is in.
    pub(in crate::backend) fn host() -> &'static str {
        net::HOST
    }

    /// The resolver on the host's loopback, which hands on what it is asked.
    pub(in crate::backend) fn resolver() -> Forwarder {
        Forwarder {
            listens_in: net::HOST.into(),
            listens_on: (Ipv4Addr::LOCALHOST, DNS_PORT).into(),
            asks_from: net::HOST.into(),
            asks: (map::RESOLVERS[0], DNS_PORT).into(),
        }
    }

    /// Where the host has its Docker socket, its ssh-agent's, and that of its D-Bus session.
    pub(in crate::backend) fn docker_socket() -> String {
        format!("{FOLDER}/{}", sockets::DOCKER)
    }

    pub(in crate::backend) fn ssh_agent() -> String {
        format!("{FOLDER}/{}", sockets::SSH_AGENT)
    }

    pub(in crate::backend) fn session_bus() -> String {
        format!("{FOLDER}/{}", sockets::SESSION_BUS)
    }

    /// The address of the host's on which others publish their ports, and nothing else is.
    pub(in crate::backend) fn published() -> Ipv4Addr {
        match map::PUBLISHED {
            IpAddr::V4(v4) => v4,
            IpAddr::V6(_) => unreachable!("it is written in IPv4"),
        }
    }

    /// A network to which the world knows the way back.
    pub(in crate::backend) fn network_v6() -> Ipv6Net {
        let IpAddr::V6(first) = map::wire_v6(0x210, 0) else { unreachable!("it is IPv6") };
        Ipv6Net::new_assert(first, 64)
    }

    /// A private range that the host leads to, and that has nothing of the bottle's in it.
    pub(in crate::backend) fn private_range() -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12)
    }

    /// What stands before there is a bottle.
    pub(in crate::backend) fn surroundings(&self) -> Lab {
        let mut lab = self.0.lab.clone();
        let later = |post: &&Post| is_later(post);
        let later: Vec<_> =
            self.0.posts.0.iter().filter(later).map(|one| one.listener.id).collect();
        lab.listeners.retain(|placed| !later.contains(&placed.listener.id));
        lab
    }

    /// The same world with a bottle in this place.
    pub(in crate::backend) fn with(&self, place: &Place) -> Self {
        let mut world = self.0.clone();
        let moved = |address: IpAddr| match address {
            map::BUNDLE => place.bundle,
            map::HOST_GATEWAY => place.gateway,
            map::NEIGHBOUR_GATEWAY => place.default_bridge,
            other => other,
        };
        for post in &mut world.posts.0 {
            let bound = moved(post.listener.address.ip());
            post.listener.address.set_ip(bound);
            for stand in &mut post.stands {
                stand.dialled_as.iter_mut().for_each(|address| *address = moved(*address));
                stand.control_dials = moved(stand.control_dials);
                // The agent's own wire lets no such frame out; the host is on the same segment.
                if stand.control == net::BOTTLE {
                    stand.control = net::HOST;
                }
            }
        }
        world.gateway = place.way_out.clone().map(|gateway| gateway.at(place.bundle));
        if !place.other_bottle.is_empty() {
            world.posts.other_bottle(&place.other_bottle);
        }
        if place.egress_everywhere {
            for post in world.posts.of(Site::Bundle, "egress") {
                post.listener.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            }
        }
        if let Some(monitor) = place.monitor {
            let stands = world.posts.0.iter_mut().flat_map(|post| &mut post.stands);
            for stand in stands.filter(|stand| stand.site == Site::HostLoopback) {
                stand.dialled_as.push(monitor);
            }
        }
        if place.stray_port {
            world.posts.stray();
        }
        Self(world)
    }

    /// The listeners beside the bottle, in the net namespaces of these processes; each is named `NET-NAME`.
    pub(in crate::backend) fn beside(&self, name: &str, processes: Processes) -> Lab {
        let of = |net: &str, process| Net {
            name: format!("{net}-{name}"),
            of_process: Some(process),
            ..Net::default()
        };
        let placed = |Post { net, listener, same_port, .. }: &Post| Placed {
            net: format!("{net}-{name}"),
            listener: listener.clone(),
            same_port: *same_port,
        };
        let Processes { bottle, bundle, other_bottle, engine } = processes;
        let there = [of(net::BOTTLE, bottle), of(net::BUNDLE, bundle), of(net::HOST, engine)];
        let other = other_bottle.map(|process| of(net::OTHER_BOTTLE, process));
        let nets = there.into_iter().chain(other).collect();
        Lab {
            nets,
            listeners: self.0.posts.0.iter().filter(|post| is_later(post)).map(placed).collect(),
            ..Lab::default()
        }
    }

    /// What the helper calls the place that is called so here.
    pub(in crate::backend) fn named(place: &str, name: &str) -> String {
        match place {
            net::BOTTLE | net::BUNDLE | net::OTHER_BOTTLE => format!("{place}-{name}"),
            other => other.to_owned(),
        }
    }

    /// From where the outside dials into the bottle.
    pub(in crate::backend) fn inbound() -> Inbound {
        let Inbound { control, mut from } = inbound();
        from.push(net::OTHER_BOTTLE.to_owned());
        Inbound { control, from }
    }

    /// The sites, now that all listeners are up.
    pub(in crate::backend) fn sites(&self, surroundings: &Built, beside: &Built) -> Sites {
        let mut listening = surroundings.listening.clone();
        listening.extend(&beside.listening);
        let cookies = [surroundings.cookies.as_slice(), &beside.cookies].concat();
        self.0.sites(&Built {
            inodes: surroundings.inodes.clone(),
            listening,
            files: surroundings.files.clone(),
            cookies,
        })
    }
}

/// Whether a listener is opened once the bottle is there: in a net namespace of the engine's making; or on the host as a member
/// of a group, which it joins on the bridges that there are by then.
fn is_later(post: &Post) -> bool {
    match post.net {
        net::BOTTLE | net::BUNDLE | net::OTHER_BOTTLE => true,
        net::HOST => post.listener.address.ip().is_multicast(),
        _ => false,
    }
}
