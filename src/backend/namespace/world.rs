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

use claude_bottle_protocol::helper::{Address, Bottle, End, Lab, Link, Net, Placed, REAL, Route};
use claude_bottle_protocol::witness::{Listener, Transport};

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
const DISCARD_PORT: u16 = 9;

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
    /// The listeners by site, before their ports are known.
    pub(super) wanted: Vec<Wanted>,
}

/// A listener and what it stands for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    site: Site,
    port: &'static str,
    placed: Placed,
    dialled_as: Vec<IpAddr>,
    /// What its controls dial; the port is that of the listener.
    control_dials: IpAddr,
}

impl World {
    /// The world around a sound bottle, or one with the hole that `breach` makes.
    pub(super) fn plan(name: &str, breach: Option<Breach>) -> Self {
        let mut world = Self { lab: wires(), bottle: walls(name), wanted: listeners() };
        if let Some(breach) = breach {
            world.break_open(breach);
        }
        world.lab.listeners = world.wanted.iter().map(|wanted| wanted.placed.clone()).collect();
        world
    }

    fn break_open(&mut self, breach: Breach) {
        match breach {
            Breach::NoBundleRoute => self.net(net::BOTTLE).routes.clear(),
            Breach::EgressOnAllInterfaces => {
                for wanted in &mut self.wanted {
                    if (wanted.site, wanted.port) == (Site::Bundle, "egress") {
                        wanted.placed.listener.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
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
    pub(super) fn sites(
        &self,
        listening: &BTreeMap<u32, SocketAddr>,
        absent: &BTreeMap<u32, String>,
    ) -> Sites {
        let mut sites = Sites::default();
        for Wanted { site, port, placed, dialled_as, control_dials } in &self.wanted {
            let Listener { id, transport, .. } = placed.listener;
            if let Some(address) = listening.get(&id) {
                let listening = Listening {
                    id,
                    name: format!("{site} {transport}/{port}"),
                    address: *address,
                    dialled_as: dialled_as.clone(),
                    control: placed.net.clone(),
                    control_dials: SocketAddr::new(*control_dials, address.port()),
                };
                sites.add(*site, port, transport, listening);
            } else if let Some(why) = absent.get(&id) {
                sites.lacks(*site, port, transport, format!("the witness cannot {why}"));
            }
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
        listeners: Vec::new(),
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
    let mut add = |site, port, net: &str, number: u16, bound: IpAddr, group, optional, as_: &[IpAddr]| {
        for transport in [Transport::Tcp, Transport::Udp] {
            let id = u32::try_from(all.len()).expect("a few dozen listeners");
            let listener = Listener { id, transport, address: SocketAddr::new(bound, number) };
            let placed = Placed { net: net.into(), listener, optional, same_port: group };
            let control_dials = if bound.is_unspecified() { as_[0] } else { bound };
            let dialled_as = as_.to_vec();
            all.push(Wanted { site, port, placed, dialled_as, control_dials });
        }
    };
    add(Site::Bundle, "gateway", net::BUNDLE, GATEWAY_PORT, any4, None, false, &[BUNDLE.into()]);
    add(Site::Bundle, "egress", net::BUNDLE, EGRESS_PORT, one4, None, false, &[BUNDLE.into()]);

    // The stand-in host listens on all of its addresses, in both families.
    let host = Site::HostLoopback;
    let spelled = &[one4, two4, one6];
    add(host, "discard", net::HOST, DISCARD_PORT, any6, None, false, spelled);
    add(host, "random", net::HOST, 0, any6, Some(0), false, spelled);

    // The real one on its loopback alone: nobody beyond this machine can reach these.
    let real = Site::RealLoopback;
    for bound in [one4, two4, one6] {
        let optional = bound != one4;
        add(real, "discard", REAL, DISCARD_PORT, bound, None, true, &[bound]);
        add(real, "random", REAL, 0, bound, Some(1), optional, &[bound]);
    }
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
