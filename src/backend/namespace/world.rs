//! The embedded backend's bottle, bundle and lab as data: what the helper is asked to make.
//!
//! ```text
//!  bottle ── eth0 ──────── agent0 ─ bundle ─ uplink0 ──── bundle0 ─ host ─ wan0 ──── lan0 ─ world
//!  10.200.0.2              10.200.0.1       10.200.1.2    10.200.1.1     192.168.200.10    192.168.200.1
//! ```
//!
//! The bottle has one route, to the bundle's address. The host forwards for the bundle, as a real one does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use claude_bottle_protocol::helper::{Address, Bottle, End, Lab, Link, Net, Placed, REAL, Route};
use claude_bottle_protocol::witness::{Listener, Transport};

use super::real::{Absent, Opened, RealLoopback};
use crate::breach::Breach;
use crate::lab::{Listening, Sites};
use crate::probe::definition::Site;

/// The bottle's address on its wire to the bundle.
pub(super) const BOTTLE: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
/// The bundle's pinned address.
pub(super) const BUNDLE: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// The bundle's address on the host's bridge.
const BUNDLE_UPLINK: Ipv4Addr = Ipv4Addr::new(10, 200, 1, 2);
/// The host's address there: the gateway.
const HOST_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 200, 1, 1);
/// The host's address on its own network.
const HOST_LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 10);
/// The router of that network.
const WORLD_LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);

/// The port of the gateway daemon.
const GATEWAY_PORT: u16 = 8888;
/// The port of the egress daemon.
const EGRESS_PORT: u16 = 9099;
/// The port of the discard service (RFC 863).
pub(super) const DISCARD_PORT: u16 = 9;

/// The net namespaces' names.
pub(super) mod net {
    pub(in super::super) const BOTTLE: &str = "bottle";
    pub(in super::super) const BUNDLE: &str = "bundle";
    pub(in super::super) const HOST: &str = "host";
    pub(in super::super) const WORLD: &str = "world";
}

/// Everything to ask the helper for, and how probes find their way in it.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// Net namespaces, wires, listeners.
    pub(super) lab: Lab,
    /// The bottle's walls.
    pub(super) bottle: Bottle,
    wanted: Vec<Wanted>,
    absent: Vec<Absent>,
}

/// A listener and what it stands for.
#[derive(Debug, Clone)]
struct Wanted {
    site: Site,
    port: &'static str,
    net: &'static str,
    listener: Listener,
    same_port: Option<u32>,
    dialled_as: Vec<IpAddr>,
    /// What its controls dial; the port is that of the listener.
    control_dials: IpAddr,
}

impl World {
    /// The world around a sound bottle, or one with the hole that `breach` makes.
    pub(super) fn plan(name: &str, breach: Option<Breach>) -> Self {
        let (lab, bottle, wanted) = (wires(), walls(name), listeners());
        let mut world = Self { lab, bottle, wanted, absent: Vec::new() };
        if let Some(breach) = breach {
            world.break_open(breach);
        }
        let placed = |wanted: &Wanted| Placed {
            net: wanted.net.into(),
            listener: wanted.listener.clone(),
            same_port: wanted.same_port,
        };
        world.lab.listeners = world.wanted.iter().map(placed).collect();
        world
    }

    /// Adds the listeners on the real loopback; their descriptors go to the witness.
    pub(super) fn adopt(&mut self, real: RealLoopback) -> Vec<OwnedFd> {
        let mut descriptors = Vec::new();
        for Opened { port, transport, address, descriptor } in real.opened {
            let id = u32::try_from(self.wanted.len()).expect("a few dozen listeners");
            let listener = Listener { id, transport, address };
            self.lab.adopted.push(listener.clone());
            let ip = address.ip();
            self.wanted.push(Wanted {
                site: Site::RealLoopback,
                port,
                net: REAL,
                listener,
                same_port: None,
                dialled_as: vec![ip],
                control_dials: ip,
            });
            descriptors.push(descriptor);
        }
        self.absent = real.absent;
        descriptors
    }

    fn break_open(&mut self, breach: Breach) {
        match breach {
            Breach::NoBundleRoute => self.net(net::BOTTLE).routes.clear(),
            Breach::EgressOnAllInterfaces => {
                for wanted in &mut self.wanted {
                    if (wanted.site, wanted.port) == (Site::Bundle, "egress") {
                        wanted.listener.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
                    }
                }
            }
            Breach::SharedNetworkNamespace => {
                self.bottle.net = net::HOST.into();
                // The host reaches the bundle as its neighbour on the bridge.
                self.net(net::HOST).routes.push(route(BUNDLE, 32, Some(BUNDLE_UPLINK), "bundle0"));
            }
            Breach::NoNetworkNamespace => self.bottle.net = REAL.into(),
            Breach::NoexecRoot => self.bottle.executable = false,
        }
    }

    fn net(&mut self, name: &str) -> &mut Net {
        let net = self.lab.nets.iter_mut().find(|net| net.name == name);
        net.expect("the plan has this net")
    }

    /// The sites, now that the listeners' addresses are known.
    pub(super) fn sites(&self, listening: &BTreeMap<u32, SocketAddr>) -> Sites {
        let mut sites = Sites::default();
        for Wanted { site, port, net, listener, dialled_as, control_dials, .. } in &self.wanted {
            let Listener { id, transport, address } = *listener;
            let address = listening.get(&id).copied().unwrap_or(address);
            let listening = Listening {
                id,
                name: format!("{site} {transport}/{port}"),
                address,
                dialled_as: dialled_as.clone(),
                control: (*net).to_owned(),
                control_dials: SocketAddr::new(*control_dials, address.port()),
            };
            sites.add(*site, port, transport, listening);
        }
        for Absent { port, transport, why } in &self.absent {
            sites.lacks(Site::RealLoopback, port, *transport, why.clone());
        }
        sites
    }
}

fn wires() -> Lab {
    let bottle = Net {
        name: net::BOTTLE.into(),
        addresses: vec![address("eth0", BOTTLE, 32)],
        routes: vec![route(BUNDLE, 32, None, "eth0")],
        ..Net::default()
    };
    let bundle = Net {
        name: net::BUNDLE.into(),
        addresses: vec![address("agent0", BUNDLE, 32), address("uplink0", BUNDLE_UPLINK, 24)],
        routes: vec![
            route(BOTTLE, 32, None, "agent0"),
            route(Ipv4Addr::UNSPECIFIED, 0, Some(HOST_GATEWAY), "uplink0"),
        ],
        ..Net::default()
    };
    let host = Net {
        name: net::HOST.into(),
        ipv6: true,
        forward: true,
        addresses: vec![address("bundle0", HOST_GATEWAY, 24), address("wan0", HOST_LAN, 24)],
        routes: vec![route(Ipv4Addr::UNSPECIFIED, 0, Some(WORLD_LAN), "wan0")],
        ..Net::default()
    };
    let world = Net {
        name: net::WORLD.into(),
        ipv6: true,
        addresses: vec![address("lan0", WORLD_LAN, 24)],
        routes: vec![route(Ipv4Addr::new(10, 200, 0, 0), 16, Some(HOST_LAN), "lan0")],
        ..Net::default()
    };
    let link = |a: (&str, &str), b: (&str, &str)| Link { a: end(a), b: end(b) };
    Lab {
        nets: vec![bottle, bundle, host, world],
        links: vec![
            link((net::BOTTLE, "eth0"), (net::BUNDLE, "agent0")),
            link((net::BUNDLE, "uplink0"), (net::HOST, "bundle0")),
            link((net::HOST, "wan0"), (net::WORLD, "lan0")),
        ],
        ..Lab::default()
    }
}

fn walls(name: &str) -> Bottle {
    let hosts = ["bundle", "pipelock", "egress", "gitleaks", "supervise"];
    Bottle {
        net: net::BOTTLE.into(),
        hostname: name.into(),
        hosts: hosts.map(|alias| (BUNDLE.into(), alias.to_owned())).into(),
        env: BTreeMap::new(),
        mounts: Vec::new(),
        executable: true,
        seccomp: true,
        user_namespaces: false,
        capabilities: Vec::new(),
    }
}

fn listeners() -> Vec<Wanted> {
    let any4 = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let any6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let (one4, one6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let two4 = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    let mut all = Vec::new();
    let mut add = |site, port, net, number: u16, bound: IpAddr, dialled_as: &[IpAddr]| {
        // Whichever is free, the same for both transports.
        let same_port = (number == 0).then_some(0);
        for transport in [Transport::Tcp, Transport::Udp] {
            let id = u32::try_from(all.len()).expect("a few dozen listeners");
            let listener = Listener { id, transport, address: SocketAddr::new(bound, number) };
            let control_dials = if bound.is_unspecified() { dialled_as[0] } else { bound };
            let dialled_as = dialled_as.to_vec();
            all.push(Wanted { site, port, net, listener, same_port, dialled_as, control_dials });
        }
    };
    add(Site::Bundle, "gateway", net::BUNDLE, GATEWAY_PORT, any4, &[BUNDLE.into()]);
    add(Site::Bundle, "egress", net::BUNDLE, EGRESS_PORT, one4, &[BUNDLE.into()]);
    // The stand-in host listens on all of its addresses, in both families.
    let spelled = &[one4, two4, one6];
    add(Site::HostLoopback, "discard", net::HOST, DISCARD_PORT, any6, spelled);
    add(Site::HostLoopback, "random", net::HOST, 0, any6, spelled);
    all
}

fn end((net, interface): (&str, &str)) -> End {
    End { net: net.into(), interface: interface.into() }
}

fn address(interface: &str, address: Ipv4Addr, prefix: u8) -> Address {
    Address { interface: interface.into(), address: address.into(), prefix }
}

fn route(destination: Ipv4Addr, prefix: u8, via: Option<Ipv4Addr>, interface: &str) -> Route {
    Route {
        destination: destination.into(),
        prefix,
        via: via.map(Into::into),
        interface: interface.into(),
    }
}
