//! What stands around a machine on this machine's own network, for the simulator and for a report. Of this machine only what the run
//! has there is drawn.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use claude_bottle_protocol::helper::{Lab, Net, Placed};
use claude_bottle_protocol::witness::Listener;

use super::sites::{Around, BUNDLE, HOST};
use crate::backend::docker::Spec as BundleSpec;
use crate::backend::docker::drawn::{address, bridge, bundle, closed};
use crate::backend::docker::plan::Plan as BundlePlan;
use crate::backend::smolmachines::drawn::{BOTTLE, MACHINE, machine, monitor, walls};
use crate::backend::smolmachines::plan::{Network, Spec, Way};
use crate::backend::smolmachines::smolvm::version::Version;
use crate::expected::Topology;
use crate::lab::{Place, Role, Sites, Wire, Wiring};
use crate::probe::definition::Site;

/// This machine's bridges, and whatever its own addresses are on.
const BRIDGE: &str = "bridge0";
const OUT_BRIDGE: &str = "bridge2";
const OWN: &str = "own0";
/// Whom the monitor asks for names. No look-up is tried here.
const RESOLVER: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 53);

/// What was launched.
#[derive(Clone, Copy)]
pub(super) struct Stage<'a> {
    pub(super) spec: &'a Spec,
    pub(super) way: Way,
    pub(super) release: Version,
    pub(super) bundle: &'a BundlePlan,
    pub(super) around: &'a Around,
    pub(super) sites: &'a Sites,
}

/// The machine with all that stands around it.
pub(super) fn topology(stage: Stage<'_>) -> Topology {
    let Stage { spec, way, release, bundle: plan, around, sites } = stage;
    let mut host = Net { name: HOST.into(), ipv6: true, forward: true, ..Net::default() };
    host.addresses.push(address(BRIDGE, plan.gateway, plan.subnet.prefix_len()));
    let mut links = bridge(&[(HOST, BRIDGE), (BUNDLE, "eth0")]);
    if let Some(out) = &plan.way_out {
        host.addresses.push(address(OUT_BRIDGE, out.gateway, out.subnet.prefix_len()));
        links.extend(bridge(&[(HOST, OUT_BRIDGE), (BUNDLE, "eth1")]));
    }
    for ip in &around.own {
        if host.addresses.iter().all(|known| known.address != *ip) {
            let prefix = if ip.is_ipv4() { 32 } else { 128 };
            host.addresses.push(address(OWN, *ip, prefix));
        }
    }
    let gateways =
        sites.all().filter(|(site, port, ..)| (*site, *port) == (Site::Bundle, "gateway"));
    Topology {
        lab: Lab {
            nets: vec![host, bundle(plan, &BundleSpec::new(BOTTLE)), machine(spec)],
            links,
            listeners: listeners(around, sites),
            ..Lab::default()
        },
        bottle: walls(spec),
        allowed: gateways.map(|(.., one)| one.id).collect(),
        gateway: None,
        forwarders: Vec::new(),
        inbound: None,
        host: HOST.into(),
        processes: Vec::new(),
        random_ports: around.random.into(),
        barriers: vec![closed(BRIDGE)],
        monitors: monitor(spec, way, release, (HOST, RESOLVER.into())).into_iter().collect(),
        default_profile: false,
        sites: sites.clone(),
    }
}

/// The same, as a report draws it.
pub(super) fn wiring(stage: Stage<'_>) -> Wiring {
    let Stage { spec, bundle: plan, around, sites, .. } = stage;
    let place = |name: &str, role, addresses: Vec<String>, sites| Place {
        name: name.to_owned(),
        role,
        addresses,
        sites,
    };
    let of = |here: &dyn Fn(Site) -> bool| {
        let all: BTreeSet<_> =
            sites.all().map(|(site, ..)| site).filter(|one| here(*one)).collect();
        all.into_iter().collect::<Vec<_>>()
    };
    let machine = match spec.network {
        Network::Missing => Vec::new(),
        Network::Allowed | Network::Open(_) => vec![format!("{MACHINE}/30")],
    };
    let at = format!("{}/{}", plan.bundle_address, plan.subnet.prefix_len());
    Wiring {
        places: vec![
            place(BOTTLE, Role::Bottle, machine, Vec::new()),
            place(BUNDLE, Role::Bundle, vec![at], of(&|site| site == Site::Bundle)),
            place(
                HOST,
                Role::Host,
                around.own.iter().map(IpAddr::to_string).collect(),
                of(&|site| site != Site::Bundle),
            ),
        ],
        wires: vec![Wire {
            from: BUNDLE.to_owned(),
            from_interface: "eth0".to_owned(),
            to: HOST.to_owned(),
            to_interface: format!("bridge {}", plan.subnet),
        }],
    }
}

/// Who listens where. One whose port is published is there twice.
fn listeners(around: &Around, sites: &Sites) -> Vec<Placed> {
    let placed = sites.all().filter_map(|(site, _, transport, one)| {
        let in_bundle = site == Site::Bundle && !around.is_published(one);
        let net = if in_bundle { BUNDLE } else { HOST };
        let listener =
            Listener { id: one.id, transport, address: one.address.inet()?, service: one.service };
        Some(Placed { net: net.into(), listener, same_port: None })
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::super::sites::tests::{ADDRESS, around, standing};
    use super::super::{holes, spec};
    use super::*;
    use crate::backend::docker::drawn::planned;
    use crate::backend::smolmachines::launch;
    use crate::breach::Breach;
    use crate::expected::{Kind, Table};
    use crate::probe::catalogue::Catalogue;
    use crate::probe::definition::{Probe, RunsOn};
    use crate::probe::flip;
    use crate::probe::parse::Known;

    /// Those of which anything is tried here.
    fn probes() -> Vec<Probe> {
        let catalogue = Catalogue::embedded(Known::all()).unwrap();
        let here = |probe: &&Probe| {
            let is_named = |breach: &Breach| probe.proven_by.iter().any(|one| one == breach.name());
            matches!(probe.runs_on("smolmachines"), RunsOn::Runs { .. })
                && holes::ALL.iter().any(is_named)
        };
        let probes: Vec<_> = catalogue.probes().iter().filter(here).cloned().collect();
        let table = of(&probes, None, false);
        let is_tried = |probe: &&Probe| {
            table.iter().any(|(name, _, e)| name == probe.name && !e.agrees(Kind::Skipped))
        };
        probes.iter().filter(is_tried).cloned().collect()
    }

    fn table(breach: Option<Breach>, loopback: bool) -> Table {
        of(&probes(), breach, loopback)
    }

    /// What must come of every attempt where all that is wanted could be opened.
    fn of(probes: &[Probe], breach: Option<Breach>, loopback: bool) -> Table {
        let egress = breach == Some(Breach::EgressOnAllInterfaces);
        let around = around(loopback, egress);
        let spec = spec("bottle".into(), breach, loopback, &around.own);
        let sites = standing(&around);
        let mut bundle = launch::bundle(&spec);
        bundle.pool = "10.210.0.0/28".parse().unwrap();
        let way = if loopback { Way::Loopback(49_153) } else { Way::Direct(ADDRESS) };
        let bundle = planned(&bundle);
        let release = Version::SEEN;
        let stage =
            Stage { spec: &spec, way, release, bundle: &bundle, around: &around, sites: &sites };
        topology(stage).table(probes, "smolmachines")
    }

    fn leaked(table: &Table) -> BTreeSet<(String, String)> {
        let bad = [Kind::Leaked, Kind::Unreached];
        let rows = table.iter().filter(|(.., e)| bad.iter().any(|kind| e.agrees(*kind)));
        rows.map(|(probe, what, _)| (probe.to_owned(), what.to_owned())).collect()
    }

    #[test]
    fn every_attempt_has_an_expectation_and_every_breach_flips_the_probes_that_name_it() {
        let probes = probes();
        assert_eq!(leaked(&table(None, false)), BTreeSet::new());
        for breach in [None].into_iter().chain(holes::ALL.iter().copied().map(Some)) {
            let table = table(breach, false);
            for (probe, what, expected) in table.iter() {
                assert_ne!(expected.kinds, [], "{breach:?}: {probe}: {what}: {}", expected.why);
            }
            let Some(breach) = breach else { continue };
            let flipped: BTreeSet<_> = leaked(&table).into_iter().map(|(probe, _)| probe).collect();
            let declared: BTreeSet<_> =
                flip::declared(&probes, breach, "smolmachines").into_iter().collect();
            assert_eq!(flipped, declared, "{breach}");
        }
    }

    /// Whoever comes to the bundle by loopback has it open: that is all that is open, and what the breach of it opens.
    #[test]
    fn by_way_of_loopback_a_sound_machine_leaks_what_the_breach_of_it_does() {
        let opened = leaked(&table(None, true));
        assert!(opened.iter().all(|(probe, _)| probe == "loopback-reach"), "{opened:?}");
        assert_eq!(opened, leaked(&table(Some(Breach::GatewayAllowed), false)));
        for breach in holes::ALL.iter().filter(|breach| **breach != Breach::GatewayAllowed) {
            let declared = flip::declared(&probes(), *breach, "smolmachines");
            let new = leaked(&table(Some(*breach), true));
            let new: BTreeSet<_> =
                new.difference(&opened).map(|(probe, _)| probe.clone()).collect();
            assert_eq!(new, declared.into_iter().collect(), "{breach}");
        }
        // What must be reached is, by that way.
        let rows = table(None, true);
        let reach = rows.iter().find(|(probe, ..)| *probe == "bundle-reach").unwrap();
        assert!(reach.2.agrees(Kind::Reached), "{}", reach.2.why);
    }
}
