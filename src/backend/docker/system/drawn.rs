//! What was made around a bottle on the machine's own engine, for the simulator and for a report: the plan, with the addresses and
//! ports that were free.
//!
//! Of the machine itself only what the run has there is drawn.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use claude_bottle_protocol::helper::{Address, Bottle, Lab, Net, Placed, PlacedUnix};
use claude_bottle_protocol::witness::{Listener, Transport};
use ipnet::Ipv4Net;

use super::machine::{self, SITES};
use super::sites::{Around, BOTTLE, BUNDLE, HOST, NEIGHBOUR, SEGMENT};
use crate::backend::docker::drawn::{
    self, Second, address, anywhere, bridge, closed, reached, walls,
};
use crate::backend::docker::plan::{Plan, host_of};
use crate::backend::docker::spec::{Joined, Spec};
use crate::expected::{Barrier, Topology};
use crate::lab::{Inbound, Place, Role, Sites, Wire, Wiring};
use crate::probe::definition::Site;

/// The host's bridges.
const OWN: &str = "bridge0";
const OTHER: &str = "bridge1";

/// The bottle of `plan` with all that stands around it.
pub(super) fn topology(
    plan: &Plan,
    beside: &Plan,
    spec: &Spec,
    around: &Around,
    sites: &Sites,
    inbound: Inbound,
) -> Topology {
    let holes = &spec.holes;
    let seat = |name: &str, at: Ipv4Addr, on: &Plan| Net {
        name: name.into(),
        addresses: vec![address("eth0", at, on.subnet.prefix_len())],
        routes: vec![anywhere(on.gateway.into(), "eth0")],
        ..Net::default()
    };
    let mut nets = vec![
        host(plan, beside),
        drawn::bundle(plan, spec),
        seat(SEGMENT, plan.address_beside(), plan),
        seat(NEIGHBOUR, beside.agent_address, beside),
    ];
    let mut own = vec![(HOST, OWN), (BUNDLE, "eth0"), (SEGMENT, "eth0")];
    let mut other = vec![(HOST, OTHER), (NEIGHBOUR, "eth0")];
    let mut barriers = vec![closed(OWN), closed(OTHER)];
    if holes.joined == Joined::Own {
        // Its bridge gives that one away first.
        let second = Second {
            address: host_of(beside.subnet, 2).into(),
            prefix: beside.subnet.prefix_len(),
            bridge: None,
        };
        nets.push(drawn::bottle(plan, spec, second));
        own.push((BOTTLE, "eth0"));
        if holes.second_network.is_some() {
            other.push((BOTTLE, "eth1"));
        }
        if holes.filtered() {
            barriers.push(Barrier::Leaving { net: BOTTLE.into(), to: reached(plan, spec) });
        }
    }
    let listeners = listeners(sites);
    let lab = Lab {
        nets,
        links: [bridge(&own), bridge(&other)].concat(),
        listeners,
        sockets: around
            .machine
            .sockets()
            .into_iter()
            .map(|listener| PlacedUnix { net: HOST.into(), listener })
            .collect(),
        ..Lab::default()
    };
    let random = sites.all().filter(|(_, port, ..)| *port == "random");
    let gateways = sites.all().filter(|(site, port, transport, _)| {
        (*site, *port, *transport) == (Site::Bundle, "gateway", Transport::Tcp)
    });
    Topology {
        lab,
        bottle: bottle(plan, beside, spec, around),
        allowed: gateways.map(|(.., one)| one.id).collect(),
        gateway: None,
        forwarders: Vec::new(),
        inbound: Some(inbound),
        host: HOST.into(),
        processes: Vec::new(),
        random_ports: random.filter_map(|(.., one)| Some(one.address.inet()?.port())).collect(),
        barriers,
        monitors: Vec::new(),
        default_profile: !holes.unconfined,
        sites: sites.clone(),
    }
}

/// The same, as a report draws it.
pub(super) fn wiring(plan: &Plan, spec: &Spec, around: &Around, sites: &Sites) -> Wiring {
    let of = |wanted: &[Site]| {
        let mut here: Vec<_> = sites.all().map(|(site, ..)| site).collect();
        here.retain(|site| wanted.contains(site));
        here.dedup();
        here
    };
    let place = |name: &str, role, addresses: Vec<String>, sites| Place {
        name: name.to_owned(),
        role,
        addresses,
        sites,
    };
    let at = |address: Ipv4Addr, net: Ipv4Net| format!("{address}/{}", net.prefix_len());
    let bottle = match &spec.holes.joined {
        Joined::Own => at(plan.agent_address, around.subnet),
        Joined::Host => format!("in the network of {HOST}"),
        _ => format!("in the network of {BUNDLE}"),
    };
    let gateways =
        vec![at(around.gateway, around.subnet), at(around.neighbour_gateway, around.neighbours)];
    let places = vec![
        place(BOTTLE, Role::Bottle, vec![bottle], Vec::new()),
        place(BUNDLE, Role::Bundle, vec![at(around.bundle, around.subnet)], of(&[Site::Bundle])),
        place(HOST, Role::Host, gateways, of(machine::SITES)),
        place(
            NEIGHBOUR,
            Role::Neighbour,
            vec![at(around.neighbour, around.neighbours)],
            of(&[Site::Neighbour]),
        ),
    ];
    let wire = |from: &str, to: &str, bridge: &str| Wire {
        from: from.to_owned(),
        from_interface: "eth0".to_owned(),
        to: to.to_owned(),
        to_interface: bridge.to_owned(),
    };
    let own = format!("bridge {}", around.subnet);
    let mut wires = vec![
        wire(BUNDLE, HOST, &own),
        wire(NEIGHBOUR, HOST, &format!("bridge {}", around.neighbours)),
    ];
    if spec.holes.joined == Joined::Own {
        wires.insert(0, wire(BOTTLE, HOST, &own));
    }
    Wiring { places, wires }
}

/// The machine, as far as it is the run's.
fn host(plan: &Plan, beside: &Plan) -> Net {
    let on = |bridge: &str, plan: &Plan| -> Address {
        address(bridge, plan.gateway, plan.subnet.prefix_len())
    };
    Net {
        name: HOST.into(),
        ipv6: true,
        forward: true,
        addresses: vec![on(OWN, plan), on(OTHER, beside)],
        ..Net::default()
    }
}

/// The agent's walls. That the run's folder is mounted shows its socket.
fn bottle(plan: &Plan, beside: &Plan, spec: &Spec, around: &Around) -> Bottle {
    let mut bottle = walls(plan, spec);
    let volume = machine::volume(&beside.name);
    for mount in bottle.mounts.iter_mut().filter(|mount| mount.source == volume) {
        around.machine.path().clone_into(&mut mount.source);
        mount.target = format!("{}/{}", mount.target, machine::SOCKET);
    }
    bottle
}

/// Who listens where, each once.
fn listeners(sites: &Sites) -> Vec<Placed> {
    let mut known = BTreeSet::new();
    let placed = sites.all().filter_map(|(site, _, transport, one)| {
        let net = match site {
            Site::Neighbour => NEIGHBOUR,
            site if SITES.contains(&site) => HOST,
            _ => BUNDLE,
        };
        let listener =
            Listener { id: one.id, transport, address: one.address.inet()?, service: one.service };
        known.insert(one.id).then(|| Placed { net: net.into(), listener, same_port: None })
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::prober::SocketFile;
    use claude_bottle_protocol::witness::Opened;

    use super::*;
    use crate::backend::docker::drawn::planned;
    use crate::backend::docker::system::holes;
    use crate::backend::docker::system::machine::Machine;
    use crate::breach::Breach;
    use crate::expected::{Kind, Table};
    use crate::host::Requirement;
    use crate::probe::catalogue::Catalogue;
    use crate::probe::definition::Probe;
    use crate::probe::flip;
    use crate::probe::parse::Known;

    fn probes() -> Vec<Probe> {
        let (names, requirements) = (Breach::names(), Requirement::words());
        let known = Known::from(names.as_slice()).with_requirements(&requirements);
        let catalogue = Catalogue::embedded(known).unwrap();
        let here = |probe: &&Probe| {
            holes::ALL.iter().any(|breach| probe.proven_by.iter().any(|name| name == breach.name()))
        };
        catalogue.probes().iter().filter(here).cloned().collect()
    }

    /// What must come of every attempt where all that is wanted could be opened.
    fn table(breach: Option<Breach>) -> Table {
        let mut spec = Spec::new("bottle");
        let mut neighbours = Spec::new("bottle-lab");
        neighbours.pool = "10.210.0.16/28".parse().unwrap();
        if let Some(breach) = breach {
            holes::make(&mut spec, breach, &neighbours.name);
        }
        let (plan, beside) = (planned(&spec), planned(&neighbours));
        let around = Around {
            subnet: plan.subnet,
            bundle: plan.bundle_address,
            gateway: plan.gateway,
            neighbours: beside.subnet,
            neighbour: beside.agent_address,
            neighbour_gateway: beside.gateway,
            egress_everywhere: spec.holes.egress_on_all_interfaces,
            machine: Machine::new("/sockets/docker.sock".into()),
            in_machine: spec.holes.joined == Joined::Host,
        };
        let mut sites = around.nothing();
        for place in [BUNDLE, HOST, NEIGHBOUR] {
            let wanted = around.wanted(place);
            let all = wanted.groups.into_iter().flatten();
            let port = |port: u16| if port == 0 { 40_000 } else { port };
            let file = SocketFile { device: 1, inode: 2 };
            let opened = Opened {
                listening: all
                    .map(|one| (one.id, (one.address.ip(), port(one.address.port())).into()))
                    .collect(),
                files: wanted.sockets.iter().map(|one| (one.id, file)).collect(),
                failed: Vec::new(),
            };
            around.stand(place, &opened, &mut sites);
        }
        let inbound = super::super::inbound();
        topology(&plan, &beside, &spec, &around, &sites, inbound).table(&probes(), "docker")
    }

    #[test]
    fn every_attempt_has_an_expectation_and_in_a_sound_bottle_all_is_well() {
        for breach in [None].into_iter().chain(holes::ALL.iter().copied().map(Some)) {
            for (probe, what, expected) in table(breach).iter() {
                let breach = breach.map_or("sound", Breach::name);
                let at = format!("{breach}: {probe}: {what}: {expected}: {}", expected.why);
                assert_ne!(expected.kinds, [], "{at}");
                let well = [Kind::Contained, Kind::Reached, Kind::Skipped];
                assert!(breach != "sound" || well.contains(&expected.kinds[0]), "{at}");
            }
        }
    }

    /// Of those that are tried.
    #[test]
    fn each_breach_flips_the_probes_that_name_it() {
        let probes = probes();
        for breach in holes::ALL {
            let table = table(Some(*breach));
            let named = |kinds: &[Kind]| -> BTreeSet<&str> {
                let are = |expected: &[Kind]| expected.iter().any(|kind| kinds.contains(kind));
                table.iter().filter(|(.., e)| are(&e.kinds)).map(|(probe, ..)| probe).collect()
            };
            let flipped = named(&[Kind::Leaked, Kind::Unreached]);
            let tried =
                named(&[Kind::Contained, Kind::Inconclusive, Kind::Leaked, Kind::Unreached]);
            let declared = flip::declared(&probes, *breach, "docker");
            let declared: BTreeSet<_> =
                declared.iter().map(String::as_str).filter(|name| tried.contains(name)).collect();
            assert_eq!(flipped, declared, "{breach}");
        }
    }
}
