//! The world around an engine as the simulator takes it.

use std::collections::{BTreeMap, BTreeSet};

use claude_bottle_protocol::helper::{Address, Bottle, Forwarder, Link, Net, Placed};

use super::Elsewhere;
use crate::backend::namespace::helper::Built;
use crate::backend::namespace::world::gateway::LabGateway;
use crate::backend::namespace::world::topology::{files, is_allowed, number, processes};
use crate::backend::namespace::world::{Post, net};
use crate::expected::{Barrier, Monitor, Process, Topology};
use crate::lab::{Role, Wiring};

/// What an engine has made of a plan. Its nets are called as here: `bottle`, `bundle`, `other-bottle`.
#[derive(Debug, Clone)]
pub(in crate::backend) struct Drawn {
    /// The nets of its containers.
    pub(in crate::backend) nets: Vec<Net>,
    /// The host's addresses on its bridges.
    pub(in crate::backend) host: Vec<Address>,
    /// Who is on whose bridge: a wire between any two.
    pub(in crate::backend) links: Vec<Link>,
    /// What is dropped, and where.
    pub(in crate::backend) barriers: Vec<Barrier>,
    /// Who opens connections for whom.
    pub(in crate::backend) monitors: Vec<Monitor>,
    /// The agent's walls.
    pub(in crate::backend) walls: Bottle,
    /// Whether the engine's own filter on system calls is on.
    pub(in crate::backend) default_profile: bool,
    /// Resolvers that hand on what they are asked.
    pub(in crate::backend) forwarders: Vec<Forwarder>,
}

impl Elsewhere {
    /// The same, as a report draws it.
    pub(in crate::backend) fn wiring(&self, drawn: Drawn) -> Wiring {
        let mut world = self.0.clone();
        world.net(net::HOST).addresses.extend(drawn.host);
        world.lab.nets.extend(drawn.nets);
        world.lab.links.extend(drawn.links);
        world.bottle = drawn.walls;
        let mut wiring = world.wiring();
        // The machine is not in this world: the engine's host is the lab's.
        wiring.places.retain(|place| place.role != Role::Machine);
        wiring
    }

    /// This world, in which there is a place already, with all that an engine has made.
    pub(in crate::backend) fn topology(&self, drawn: Drawn) -> Topology {
        let mut world = self.0.clone();
        let placed = |Post { net, listener, same_port, .. }: &Post| Placed {
            net: (*net).into(),
            listener: listener.clone(),
            same_port: *same_port,
        };
        world.lab.listeners = world.posts.0.iter().map(placed).collect();
        let (random_ports, listening) = number(&mut world.lab.listeners);
        world.net(net::HOST).addresses.extend(drawn.host);
        world.lab.nets.extend(drawn.nets);
        world.lab.links.extend(drawn.links);
        let (inodes, cookies) = (BTreeMap::new(), Vec::new());
        let built = Built { inodes, listening, files: files(&world.lab), cookies };
        let allowed = world.posts.0.iter().filter(|post| is_allowed(post));
        let quiet = |net: &str| Process { net: net.into(), sockets: BTreeSet::new(), stays: true };
        let mut processes = processes(&world.lab);
        // The engine, and the other bottle's session.
        processes.extend([net::HOST, net::OTHER_BOTTLE].map(quiet));
        Topology {
            gateway: world.gateway.as_ref().map(LabGateway::plan),
            allowed: allowed.map(|post| post.listener.id).collect(),
            sites: world.sites(&built),
            forwarders: drawn.forwarders,
            inbound: Some(Self::inbound()),
            bottle: drawn.walls,
            host: net::HOST.into(),
            processes,
            lab: world.lab,
            random_ports,
            barriers: drawn.barriers,
            monitors: drawn.monitors,
            default_profile: drawn.default_profile,
        }
    }
}
