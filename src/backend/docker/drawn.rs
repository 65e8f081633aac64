//! What an engine makes of a plan, for the simulator: net namespaces, bridges as wires between all who are on them, and what its
//! rules drop. As Engine 20.10 does it, to which newer ones add walls.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use claude_bottle_protocol::helper::{Address, Bottle, End, Forwarder, Link, Mount, Net, Route};

use super::plan::{Facts, Plan};
use super::spec::{Joined, Spec};
use super::under_test::{DEFAULT_BRIDGE, UnderTest};
use crate::backend::namespace::world::elsewhere::{Drawn, Elsewhere};
use crate::breach::Breach;
use crate::expected::{Barrier, Topology};
use crate::lab::Wiring;

/// Where the engine's own resolver is in each container on a network of its own, and the port of DNS.
const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
const DNS_PORT: u16 = 53;
/// The agent on the engine's default network: the first address that its bridge gives away.
const ON_DEFAULT_BRIDGE: Second = Second {
    address: IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2)),
    prefix: 16,
    bridge: Some(DEFAULT_BRIDGE),
};
/// The groups that may make ping sockets: all, as the engine sets it.
const EVERY_GROUP: &str = "0 2147483647";
/// Names of nets and of the host's bridges.
const BOTTLE: &str = "bottle";
const BUNDLE: &str = "bundle";
const OTHER: &str = "other-bottle";
const OWN_BRIDGE: &str = "bridge0";
const OTHER_BRIDGE: &str = "bridge1";
const OUT_BRIDGE: &str = "bridge2";
const DOCKER0: &str = "docker0";

/// The agent's place on a second network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Second {
    /// The agent's address.
    pub(super) address: IpAddr,
    /// The network's prefix.
    pub(super) prefix: u8,
    /// The bridge's own address, by way of which the agent then sends whatever has no other route; none on an internal network.
    pub(super) bridge: Option<IpAddr>,
}

/// A bottle under test and all that is around it, sound or with the hole that `breach` makes.
pub(super) fn topology(breach: Option<Breach>) -> Topology {
    let under_test = UnderTest::new(breach);
    let (own, other) = (planned(&under_test.bottle), planned(&under_test.other_bottle));
    let world = Elsewhere::new().with(&under_test.place(&own, &other));
    world.topology(draw(&under_test, &own, &other))
}

/// The plan of a bottle on the simulated engine.
pub(in crate::backend) fn planned(spec: &Spec) -> Plan {
    let facts =
        Facts { major: 20, runtimes: Vec::new(), ipv6: true, entered: true, taken: Vec::new() };
    Plan::new(spec, &facts, "toolbox", "owner", 0).expect("an empty engine has room")
}

/// The same of bottles that were launched, in a world that knows where they are, as a report draws it.
pub(super) fn wiring(
    world: &Elsewhere,
    under_test: &UnderTest,
    own: &Plan,
    other: &Plan,
) -> Wiring {
    world.wiring(draw(under_test, own, other))
}

/// A bundle on its bridge, for a bottle with these walls that is no container of the engine's.
pub(in crate::backend) fn beside(plan: &Plan, spec: &Spec, walls: Bottle) -> Drawn {
    let (mut host, links) = bridges(plan);
    host.push(address(DOCKER0, DEFAULT_BRIDGE, 16));
    Drawn {
        nets: vec![bundle(plan, spec)],
        host,
        links,
        barriers: vec![closed(OWN_BRIDGE)],
        monitors: Vec::new(),
        walls,
        default_profile: false,
        forwarders: vec![Elsewhere::resolver(), in_container(plan, BUNDLE, plan.way_out.is_some())],
    }
}

/// The bridges that a bundle is on: the host's addresses there, and the wires.
fn bridges(plan: &Plan) -> (Vec<Address>, Vec<Link>) {
    let mut host = vec![address(OWN_BRIDGE, plan.gateway, plan.subnet.prefix_len())];
    let mut links = bridge(&[("host", OWN_BRIDGE), (BUNDLE, "eth0")]);
    if let Some(out) = &plan.way_out {
        host.push(address(OUT_BRIDGE, out.gateway, out.subnet.prefix_len()));
        links.extend(bridge(&[("host", OUT_BRIDGE), (BUNDLE, "eth1")]));
    }
    (host, links)
}

fn draw(under_test: &UnderTest, own: &Plan, other: &Plan) -> Drawn {
    let spec = &under_test.bottle;
    let holes = &spec.holes;
    let joined = holes.joined == Joined::Own;
    let mut nets = vec![bundle(own, spec), other_bottle(other, under_test)];
    let (mut host, mut links) = bridges(own);
    host.extend([
        address(OTHER_BRIDGE, other.gateway, other.subnet.prefix_len()),
        address(DOCKER0, DEFAULT_BRIDGE, 16),
    ]);
    host.extend(holes.ipv6.iter().flat_map(|net| {
        [(v6(net.network(), 1), 64), (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(), 64)]
            .map(|(ip, prefix)| address(OWN_BRIDGE, ip, prefix))
    }));
    links.extend(bridge(&[("host", OTHER_BRIDGE), (OTHER, "eth0")]));
    let mut barriers = vec![closed(OTHER_BRIDGE)];
    if !holes.open_network {
        barriers.push(closed(OWN_BRIDGE));
    }
    if joined {
        nets.push(bottle(own, spec, ON_DEFAULT_BRIDGE));
        links.extend(bridge(&[(BOTTLE, "eth0"), ("host", OWN_BRIDGE)]));
        links.extend(bridge(&[(BOTTLE, "eth0"), (BUNDLE, "eth0")]));
        if holes.second_network.is_some() {
            links.extend(bridge(&[(BOTTLE, "eth1"), ("host", DOCKER0)]));
        }
        if under_test.shared_network {
            links.extend(bridge(&[(BOTTLE, "eth0"), (OTHER, "eth1")]));
        }
        if holes.filtered() {
            barriers.push(Barrier::Leaving { net: BOTTLE.into(), to: reached(own, spec) });
        }
    }
    if under_test.shared_network {
        links.extend(bridge(&[(OTHER, "eth1"), (BUNDLE, "eth0")]));
        links.extend(bridge(&[(OTHER, "eth1"), ("host", OWN_BRIDGE)]));
    }
    Drawn {
        nets,
        host,
        links,
        barriers,
        monitors: Vec::new(),
        walls: walls(own, spec),
        default_profile: !holes.unconfined,
        forwarders: forwarders(own, spec),
    }
}

/// Whom routes, where they are pinned, lead to.
pub(super) fn reached(plan: &Plan, spec: &Spec) -> Vec<IpAddr> {
    let holes = &spec.holes;
    let bundle = (!holes.no_bundle_route).then_some(plan.bundle_address);
    bundle.into_iter().chain(holes.also_reached.iter().copied()).map(IpAddr::V4).collect()
}

/// `second` is where a second network is, if it has one.
pub(super) fn bottle(plan: &Plan, spec: &Spec, second: Second) -> Net {
    let holes = &spec.holes;
    // An address whose network has no route is as one of a network of its own.
    let prefix = if holes.pinned() { 32 } else { plan.subnet.prefix_len() };
    let mut net = Net {
        name: BOTTLE.into(),
        ipv6: holes.ipv6.is_some(),
        addresses: vec![address("eth0", plan.agent_address, prefix)],
        ..Net::default()
    };
    if holes.pinned() {
        net.routes =
            reached(plan, spec).into_iter().map(|ip| route(ip, 32, None, "eth0")).collect();
    }
    if holes.second_network.is_some() {
        net.addresses.push(address("eth1", second.address, second.prefix));
        net.routes.extend(second.bridge.map(|bridge| anywhere(bridge, "eth1")));
    } else if !holes.pinned() {
        net.routes.push(anywhere(plan.gateway.into(), "eth0"));
    }
    if let Some(subnet) = holes.ipv6 {
        net.addresses.push(address("eth0", v6(subnet.network(), 3), 64));
        net.routes.push(anywhere(v6(subnet.network(), 1), "eth0"));
    }
    if holes.ping {
        net.sysctls.insert("ipv4/ping_group_range".into(), EVERY_GROUP.into());
    }
    net
}

pub(in crate::backend) fn bundle(plan: &Plan, spec: &Spec) -> Net {
    let mut net = Net {
        name: BUNDLE.into(),
        ipv6: true,
        addresses: vec![address("eth0", plan.bundle_address, plan.subnet.prefix_len())],
        routes: vec![anywhere(plan.gateway.into(), "eth0")],
        sysctls: BTreeMap::from([("ipv4/ping_group_range".into(), EVERY_GROUP.into())]),
        ..Net::default()
    };
    if let Some(out) = &plan.way_out {
        net.addresses.push(address("eth1", out.bundle, out.subnet.prefix_len()));
        net.routes = vec![anywhere(out.gateway.into(), "eth1")];
    }
    if let Some(subnet) = spec.holes.ipv6 {
        net.addresses.push(address("eth0", v6(subnet.network(), 2), 64));
        net.routes.push(anywhere(v6(subnet.network(), 1), "eth0"));
    }
    net
}

fn other_bottle(plan: &Plan, under_test: &UnderTest) -> Net {
    let mut net = Net {
        name: OTHER.into(),
        addresses: vec![address("eth0", plan.agent_address, plan.subnet.prefix_len())],
        routes: vec![anywhere(plan.gateway.into(), "eth0")],
        ..Net::default()
    };
    if under_test.shared_network {
        net.addresses.push(address("eth1", super::under_test::SHARED, 28));
    }
    net
}

pub(super) fn walls(plan: &Plan, spec: &Spec) -> Bottle {
    let holes = &spec.holes;
    let (net, nameserver) = match holes.joined {
        Joined::Own => (BOTTLE, RESOLVER.ip()),
        Joined::Bundle | Joined::Container(_) => (BUNDLE, RESOLVER.ip()),
        Joined::Host => ("host", Ipv4Addr::LOCALHOST.into()),
    };
    // The aliases are in no file: the engine's resolver knows them, which a prober asks for none of its names.
    // `host-gateway` is the default bridge.
    let extra = holes.extra_hosts.iter().map(|(name, _)| (DEFAULT_BRIDGE, name.clone()));
    let mounts = holes.mounts.iter().map(|mount| Mount {
        source: mount.source.clone(),
        target: mount.target.clone(),
        writable: mount.writable,
    });
    Bottle {
        net: net.into(),
        hostname: plan.name.clone(),
        hosts: extra.collect(),
        env: spec.env.clone(),
        mounts: mounts.collect(),
        executable: !holes.starved,
        own_processes: !holes.host_processes,
        // That is the embedded backend's; the engine's is told of apart.
        seccomp: false,
        io_uring: true,
        user_namespaces: true,
        capabilities: holes.cap_add.clone(),
        nameservers: vec![nameserver],
        left_open: Vec::new(),
    }
}

/// The engine's own resolver in each container, and the host's. Where a container names another, the engine asks that one
/// from there; where it names none, as a bundle with a way out does, the host's, from the host.
fn forwarders(plan: &Plan, spec: &Spec) -> Vec<Forwarder> {
    let mut all = vec![Elsewhere::resolver(), in_container(plan, BUNDLE, plan.way_out.is_some())];
    if spec.holes.joined == Joined::Own {
        all.push(in_container(plan, BOTTLE, spec.holes.unpinned_resolver));
    }
    all
}

fn in_container(plan: &Plan, net: &str, forwards: bool) -> Forwarder {
    Forwarder {
        listens_in: net.into(),
        listens_on: RESOLVER,
        asks_from: if forwards { "host" } else { net }.into(),
        asks: if forwards {
            (Ipv4Addr::LOCALHOST, DNS_PORT).into()
        } else {
            (plan.bundle_address, DNS_PORT).into()
        },
    }
}

/// A wire between any two of them.
pub(in crate::backend) fn bridge(ends: &[(&str, &str)]) -> Vec<Link> {
    let end = |(net, interface): (&str, &str)| End { net: net.into(), interface: interface.into() };
    let mut links = Vec::new();
    for (index, a) in ends.iter().enumerate() {
        links.extend(ends[index + 1..].iter().map(|b| Link { a: end(*a), b: end(*b) }));
    }
    links
}

/// Rules of an internal network: nothing is forwarded to or from its bridge.
pub(in crate::backend) fn closed(bridge: &str) -> Barrier {
    Barrier::Through { net: "host".into(), interface: bridge.into() }
}

pub(in crate::backend) fn address(
    interface: &str,
    address: impl Into<IpAddr>,
    prefix: u8,
) -> Address {
    Address { interface: interface.into(), address: address.into(), prefix }
}

fn route(destination: IpAddr, prefix: u8, via: Option<IpAddr>, interface: &str) -> Route {
    Route { destination, prefix, via, interface: interface.into() }
}

pub(super) fn anywhere(via: IpAddr, interface: &str) -> Route {
    let everything = match via {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    route(everything, 0, Some(via), interface)
}

fn v6(network: Ipv6Addr, number: u128) -> IpAddr {
    Ipv6Addr::from(u128::from(network) + number).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::backend::docker::holes;
    use crate::expected::Kind;
    use crate::probe::catalogue::Catalogue;
    use crate::probe::definition::Probe;
    use crate::probe::flip;
    use crate::probe::parse::Known;

    fn probes() -> Vec<Probe> {
        let catalogue = Catalogue::embedded(Known::all()).unwrap();
        let here = |probe: &&Probe| {
            holes::ALL.iter().any(|breach| probe.proven_by.iter().any(|name| name == breach.name()))
        };
        catalogue.probes().iter().filter(here).cloned().collect()
    }

    #[test]
    fn a_report_draws_what_was_launched() {
        let wired = |breach| {
            let under_test = UnderTest::new(breach);
            let (own, other) = (planned(&under_test.bottle), planned(&under_test.other_bottle));
            let world = Elsewhere::new().with(&under_test.place(&own, &other));
            wiring(&world, &under_test, &own, &other)
        };
        let sound = wired(None);
        let bottle = sound.places.iter().find(|place| place.name == BOTTLE).unwrap();
        assert_eq!(bottle.addresses, ["eth0 10.210.0.3/32"]);
        let from_bottle = |wiring: &Wiring, to: &str| {
            wiring.wires.iter().any(|wire| wire.from == BOTTLE && wire.to == to)
        };
        assert!(from_bottle(&sound, BUNDLE) && !from_bottle(&sound, OTHER));
        assert!(sound.wires.iter().all(|wire| {
            [&wire.from, &wire.to].iter().all(|end| sound.places.iter().any(|p| p.name == **end))
        }));
        assert!(from_bottle(&wired(Some(Breach::SharedNetwork)), OTHER));
    }

    /// Whatever is tried on this backend has an expectation, and in a sound bottle it is that all is well.
    #[test]
    fn every_attempt_has_an_expectation() {
        for breach in [None].into_iter().chain(holes::ALL.iter().copied().map(Some)) {
            let table = topology(breach).table(&probes(), "docker");
            assert!(table.attempts() > 0);
            for (probe, what, expected) in table.iter() {
                let breach = breach.map_or("sound", Breach::name);
                let at = format!("{breach}: {probe}: {what}: {expected}: {}", expected.why);
                assert_ne!(expected.kinds, [], "{at}");
                let well = [Kind::Contained, Kind::Reached, Kind::Skipped];
                let is_well = expected.kinds.iter().all(|kind| well.contains(kind));
                assert!(breach != "sound" || is_well, "{at}");
            }
        }
    }

    /// What leaks or is not reached under a breach is what names it, as far as the simulator can tell.
    #[test]
    fn each_breach_flips_the_probes_that_name_it() {
        let probes = probes();
        let mut wrong = Vec::new();
        for breach in holes::ALL.iter() {
            let table = topology(Some(*breach)).table(&probes, "docker");
            let noticed = [Kind::Leaked, Kind::Unreached];
            let named = |flips: &dyn Fn(&[Kind]) -> bool| -> BTreeSet<String> {
                let all = table.iter().filter(|(.., expected)| flips(&expected.kinds));
                all.map(|(probe, ..)| probe.to_owned()).collect()
            };
            let must = named(&|kinds| kinds.iter().all(|kind| noticed.contains(kind)));
            let may = named(&|kinds| kinds.iter().any(|kind| noticed.contains(kind)));
            let declared: BTreeSet<_> =
                flip::declared(&probes, *breach, "docker").into_iter().collect();
            let missing: Vec<_> = must.difference(&declared).collect();
            let vain: Vec<_> = declared.difference(&may).collect();
            if !missing.is_empty() || !vain.is_empty() {
                wrong.push(format!("{breach}: undeclared {missing:?}, in vain {vain:?}"));
            }
        }
        assert_eq!(wrong, [""; 0]);
    }

    /// What a filter keeps in, and what routes alone do not.
    #[test]
    fn without_its_filter_a_pinned_bottle_is_heard_by_everybody_on_its_bridge() {
        let leaks = |breach: Option<Breach>| {
            let table = topology(breach).table(&probes(), "docker");
            let leaks = table.iter().filter(|(.., expected)| expected.agrees(Kind::Leaked));
            leaks.map(|(probe, ..)| probe.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(leaks(None), [] as [&str; 0]);
        let mut heard = leaks(Some(Breach::UnpinnedFilter));
        heard.dedup();
        assert_eq!(heard, ["multicast"]);
    }
}
