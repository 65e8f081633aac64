//! The embedded backend's bottle, bundle and lab as data: what the helper is asked to make.
//!
//! ```text
//!  bottle ── eth0 ──────── agent0 ─ bundle ─ uplink0 ──── bundle0 ─ host ─ wan0 ──── lan0 ─ world
//!  10.200.0.2              10.200.0.1       10.200.1.2    10.200.1.1 │   192.168.200.10    192.168.200.1
//!                                                                    │                     1.1.1.1 …
//!                                             neighbour ─ eth0 ─── other0
//!                                             10.200.2.2           10.200.2.1
//! ```
//!
//! The real gateway stands in the bundle. The bottle has one route, to the bundle's address. The host forwards for the bundle,
//! as a real one does.

pub(in crate::backend) mod elsewhere;
pub(in crate::backend) mod foreign;
pub(in crate::backend) mod gateway;
mod holes;
mod map;
pub(in crate::backend) mod ports;
mod posts;
mod sockets;
mod topology;
mod vsock;
mod wires;
mod wiring;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use claude_bottle_protocol::gateway::Config;
use claude_bottle_protocol::helper::{Bottle, Forwarder, Gateway, Lab, Net, Placed};
use claude_bottle_protocol::witness::Listener;

use self::gateway::LabGateway;
pub(super) use self::holes::ALL as BREACHES;
use self::posts::{Post, Posts, Stand};
use self::sockets::Sockets;
use self::vsock::Vsock;
use super::helper::Built;
use super::real::{Absent, RealLoopback};
use crate::breach::Breach;
use crate::lab::{Inbound, Listening, Sites};
use crate::probe::definition::Site;

/// The net namespaces' names.
pub(super) mod net {
    pub(in super::super) const BOTTLE: &str = "bottle";
    pub(in super::super) const BUNDLE: &str = "bundle";
    pub(in super::super) const HOST: &str = "host";
    pub(in super::super) const NEIGHBOUR: &str = "neighbour";
    /// A second bottle on the engine; the embedded backend has none.
    pub(in super::super) const OTHER_BOTTLE: &str = "other-bottle";
    pub(in super::super) const WORLD: &str = "world";
}

/// Everything to ask the helper for, and how probes find their way in it.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// Net namespaces, wires, listeners.
    pub(super) lab: Lab,
    /// The bottle's walls.
    pub(super) bottle: Bottle,
    /// Resolvers that hand on what they are asked: none in a sound world.
    pub(super) forwarders: Vec<Forwarder>,
    /// None where there is no bundle of ours that it could stand in.
    gateway: Option<LabGateway>,
    posts: Posts,
    sockets: Sockets,
    vsock: Vsock,
    absent: Vec<Absent>,
}

impl World {
    /// The world around a sound bottle, or one with the hole that `breach` makes.
    pub(super) fn plan(name: &str, breach: Option<Breach>) -> Self {
        let (lab, bottle, posts) = (wires::lay(), walls(name), Posts::sound());
        let (forwarders, sockets, absent) = (Vec::new(), Sockets::sound(), Vec::new());
        let (gateway, vsock) = (Some(LabGateway::new(breach)), Vsock::planned());
        let mut world = Self { lab, bottle, forwarders, gateway, posts, sockets, vsock, absent };
        if let Some(breach) = breach {
            holes::make(&mut world, breach);
        }
        let placed = |Post { net, listener, same_port, .. }: &Post| Placed {
            net: (*net).into(),
            listener: listener.clone(),
            same_port: *same_port,
        };
        world.lab.listeners = world.posts.0.iter().map(placed).collect();
        world.lab.sockets = world.sockets.placed();
        world.lab.folder = Some(sockets::FOLDER.into());
        world
    }

    /// Adds the listeners on the real loopback, and opens a Unix socket beside them; their descriptors go to the witness.
    pub(super) fn adopt(&mut self, real: RealLoopback) -> Vec<OwnedFd> {
        self.absent = real.absent;
        let mut descriptors = Vec::new();
        for opened in real.opened {
            self.lab.adopted.push(self.posts.adopt(&opened));
            descriptors.push(opened.descriptor);
        }
        if let Some((listener, descriptor)) = self.sockets.open_real() {
            self.lab.adopted_sockets.push(listener);
            descriptors.push(descriptor);
        }
        if let Some((listener, descriptor)) = self.vsock.open() {
            self.lab.adopted_vsock = Some(listener);
            descriptors.push(descriptor);
        }
        descriptors
    }

    /// The sites, now that the listeners' addresses are known.
    pub(super) fn sites(&self, built: &Built) -> Sites {
        let mut sites = Sites::default();
        sites.namespaces.clone_from(&built.cookies);
        self.sockets.stand(&built.files, &mut sites);
        self.vsock.stand(&mut sites);
        for Post { listener, stands, .. } in &self.posts.0 {
            let Listener { id, transport, address, .. } = *listener;
            let address = built.listening.get(&id).copied().unwrap_or(address);
            for Stand { site, port, dialled_as, control, control_dials, service } in stands {
                let listening = Listening {
                    key: 0,
                    id,
                    name: format!("{site} {transport}/{port}"),
                    transport,
                    address: address.into(),
                    service: *service,
                    dialled_as: dialled_as.clone(),
                    control: (*control).to_owned(),
                    control_dials: SocketAddr::new(*control_dials, address.port()).into(),
                };
                sites.add(*site, port, transport, listening);
            }
        }
        if let Some(gateway) = &self.gateway {
            sites.stand_behind(gateway.proxy());
        }
        for Absent { port, transport, why } in &self.absent {
            sites.lacks(Site::RealLoopback, port, *transport, why.clone());
        }
        sites
    }

    /// The same world without bottle and bundle, and without the wires to them.
    fn vacate(&mut self) {
        let is_there = |name: &str| name != net::BOTTLE && name != net::BUNDLE;
        self.lab.nets.retain(|net| is_there(&net.name));
        self.lab.links.retain(|link| is_there(&link.a.net) && is_there(&link.b.net));
        self.gateway = None;
    }

    /// The real gateway: what the helper is asked for, and its configuration.
    pub(super) fn gateway(&self) -> Option<(Gateway, Config)> {
        self.gateway.as_ref().map(|gateway| (gateway.wanted(), gateway.config()))
    }

    fn net(&mut self, name: &str) -> &mut Net {
        let net = self.lab.nets.iter_mut().find(|net| net.name == name);
        net.expect("the plan has this net")
    }
}

/// The addresses of a bottle and of its bundle.
pub(super) const ADDRESSES: [IpAddr; 2] = [map::BOTTLE, map::BUNDLE];

/// A bottle for work and its bundle, and nothing around them.
pub(super) fn for_work() -> Lab {
    wires::lay_for_work()
}

/// From where the outside dials into the bottle.
pub(in crate::backend) fn inbound() -> Inbound {
    let from = [net::HOST, net::NEIGHBOUR, net::WORLD].map(ToOwned::to_owned).into();
    Inbound { control: net::BUNDLE.into(), from }
}

/// The walls of a sound bottle.
pub(super) fn walls(name: &str) -> Bottle {
    let hosts = ["bundle", "pipelock", "egress", "gitleaks", "supervise"];
    Bottle {
        net: net::BOTTLE.into(),
        hostname: name.into(),
        hosts: hosts.map(|alias| (map::BUNDLE, alias.to_owned())).into(),
        env: BTreeMap::new(),
        mounts: Vec::new(),
        executable: true,
        own_processes: true,
        seccomp: true,
        io_uring: false,
        user_namespaces: false,
        capabilities: Vec::new(),
        nameservers: Vec::new(),
        left_open: Vec::new(),
    }
}
