//! The same world around a bottle and a bundle that somebody else makes: the engine of another backend, on the host.

use std::net::{IpAddr, Ipv4Addr};

use claude_bottle_protocol::helper::{Forwarder, Lab, Net, Placed};

use super::posts::Post;
use super::wires::route;
use super::{World, map, net, sockets};
use crate::backend::namespace::helper::Built;
use crate::lab::Sites;
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
    /// Whether the egress daemon listens on every address of the bundle.
    pub(in crate::backend) egress_everywhere: bool,
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

    /// Where the host has its Docker socket.
    pub(in crate::backend) fn docker_socket() -> String {
        format!("{FOLDER}/{}", sockets::DOCKER)
    }

    /// What stands before there is a bottle.
    pub(in crate::backend) fn surroundings(&self) -> Lab {
        let mut lab = self.0.lab.clone();
        lab.listeners.retain(|placed| placed.net != net::BUNDLE && placed.net != net::BOTTLE);
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
        if place.egress_everywhere {
            for post in world.posts.of(Site::Bundle, "egress") {
                post.listener.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            }
        }
        Self(world)
    }

    /// The listeners beside the bottle, in the net namespaces of these processes; each is named `NET-NAME`.
    pub(in crate::backend) fn beside(&self, name: &str, bottle: u32, bundle: u32) -> Lab {
        let of = |net: &str, process| Net {
            name: format!("{net}-{name}"),
            of_process: Some(process),
            ..Net::default()
        };
        let here = self.0.posts.0.iter().filter(|post| post.net == net::BUNDLE);
        let placed = |Post { listener, same_port, .. }: &Post| Placed {
            net: format!("{}-{name}", net::BUNDLE),
            listener: listener.clone(),
            same_port: *same_port,
        };
        Lab {
            nets: vec![of(net::BOTTLE, bottle), of(net::BUNDLE, bundle)],
            listeners: here.map(placed).collect(),
            ..Lab::default()
        }
    }

    /// What the helper calls the place that is called so here.
    pub(in crate::backend) fn named(place: &str, name: &str) -> String {
        match place {
            net::BOTTLE | net::BUNDLE => format!("{place}-{name}"),
            other => other.to_owned(),
        }
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
