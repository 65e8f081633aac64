//! What smolvm makes of a plan, for the simulator: a machine's own net, and the monitor that opens its connections from the host's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use claude_bottle_protocol::helper::{Address, Bottle, Net, Route};
use ipnet::IpNet;

use super::launch;
use super::plan::{GATEWAY, Network, Plan, Spec, Way};
use super::smolvm::arguments::Open;
use super::smolvm::version::Version;
use super::under_test::UnderTest;
use crate::backend::docker::Spec as BundleSpec;
use crate::backend::docker::drawn::{beside, planned};
use crate::backend::docker::plan::Plan as BundlePlan;
use crate::backend::namespace::world::elsewhere::{Drawn, Elsewhere};
use crate::expected::{Made, Monitor, Topology};
use crate::lab::Wiring;

/// The machine's net, and its interface.
pub(super) const BOTTLE: &str = "bottle";
const WIRE: &str = "eth0";
/// The machine's address on the network that its monitor makes.
pub(super) const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 96, 0, 2));
/// In whose place the monitor answers over TCP, beside its own address.
const RESOLVERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8))];

/// What a monitor opens connections to where there is no allow-list: everything but the link-local addresses of IPv6, which mean nothing
/// on another link.
const ANYWHERE: &[&str] = &["0.0.0.0/0", "::/1", "fc00::/7"];
/// What it never opens connections to: a cloud's metadata service is there.
const LINK_LOCAL: &str = "169.254.0.0/16";

/// A machine under test and all that is around it, as this release makes it.
pub(super) fn topology(under_test: &UnderTest, release: Version) -> Topology {
    let bundle = bundle(&under_test.spec);
    let world = Elsewhere::new().with(&under_test.place(&bundle));
    world.topology(draw(&under_test.spec, &bundle, release))
}

/// The same of a machine that was launched, in a world that knows where its bundle is, as a report draws it.
pub(super) fn wiring(
    world: &Elsewhere,
    spec: &Spec,
    bundle: &BundlePlan,
    release: Version,
) -> Wiring {
    world.wiring(draw(spec, bundle, release))
}

fn bundle(spec: &Spec) -> BundlePlan {
    planned(&launch::bundle(spec))
}

fn draw(spec: &Spec, bundle: &BundlePlan, release: Version) -> Drawn {
    let mut drawn = beside(bundle, &BundleSpec::new(BOTTLE), walls(spec));
    drawn.nets.push(machine(spec));
    let way = Way::Direct(bundle.bundle_address);
    let resolver = Elsewhere::resolver().listens_on;
    drawn.monitors.extend(monitor(spec, way, release, (Elsewhere::host(), resolver)));
    drawn
}

/// Whether the monitor makes a network for the machine.
fn has_network(spec: &Spec) -> bool {
    matches!(spec.network, Network::Allowed | Network::Open(Open::Own))
}

/// The machine's own net.
pub(super) fn machine(spec: &Spec) -> Net {
    let mut net = Net { name: BOTTLE.into(), ipv6: true, ..Net::default() };
    if has_network(spec) {
        net.addresses.push(Address { interface: WIRE.into(), address: MACHINE, prefix: 30 });
        net.routes.push(Route {
            destination: Ipv4Addr::UNSPECIFIED.into(),
            prefix: 0,
            via: Some(GATEWAY.into()),
            interface: WIRE.into(),
        });
    }
    net
}

/// The monitor of a machine that comes to its bundle by `way`; none of one without a network. It is in the net `host` of its host's,
/// where `resolver` is asked.
pub(super) fn monitor(
    spec: &Spec,
    way: Way,
    release: Version,
    (host, resolver): (&str, SocketAddr),
) -> Option<Monitor> {
    if spec.network == Network::Missing {
        return None;
    }
    let has_network = has_network(spec);
    let plan = Plan::new(spec, way, release, true);
    let allow = plan.expect("what is probed is no refused plan").allow;
    let nets = |nets: &[&str]| -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().expect("a network")).collect()
    };
    let is_open = matches!(spec.network, Network::Open(_));
    let denied: &[&str] = match (has_network, release.closes_loopback()) {
        (false, true) => &[LINK_LOCAL, "127.0.0.0/8", "::1/128"],
        (true, _) | (false, false) => &[LINK_LOCAL],
    };
    Some(Monitor {
        machine: BOTTLE.into(),
        net: host.into(),
        allow: if is_open { nets(ANYWHERE) } else { allow },
        deny: nets(denied),
        // Observed, in every release: TCP is passed on after 3 s, and a connected datagram socket finds nobody.
        wire: (!has_network).then(|| "203.0.113.0/24".parse().expect("a network")),
        network: has_network.then(|| Made {
            gateway: GATEWAY.into(),
            resolver,
            resolvers: [GATEWAY.into()].into_iter().chain(RESOLVERS).collect(),
        }),
    })
}

/// Commands are root in their own kernel, and the engine has no part in it.
pub(super) fn walls(spec: &Spec) -> Bottle {
    Bottle {
        net: BOTTLE.into(),
        hostname: spec.name.clone(),
        hosts: Vec::new(),
        env: BTreeMap::new(),
        mounts: Vec::new(),
        executable: !spec.holes.noexec,
        own_processes: true,
        seccomp: false,
        io_uring: true,
        user_namespaces: true,
        capabilities: Vec::new(),
        // Without a network of the machine's, smolvm names a public resolver where its host's own is on loopback.
        nameservers: match spec.network {
            Network::Open(Open::PassedOn) => vec![RESOLVERS[0]],
            Network::Allowed | Network::Open(Open::Own) | Network::Missing => vec![GATEWAY.into()],
        },
        left_open: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::smolmachines::holes;
    use crate::breach::Breach;
    use crate::expected::Kind;
    use crate::probe::catalogue::Catalogue;
    use crate::probe::definition::{Probe, RunsOn};
    use crate::probe::flip;
    use crate::probe::parse::Known;

    /// Sound or with the hole that `breach` makes; with the host's loopback, if somebody has said so.
    fn topology(breach: Option<Breach>, loopback: bool, release: Version) -> Topology {
        super::topology(&UnderTest::new(BOTTLE.to_owned(), breach, loopback), release)
    }

    /// Those of which anything is tried here.
    fn probes() -> Vec<Probe> {
        let catalogue = Catalogue::embedded(Known::all()).unwrap();
        let here = |probe: &&Probe| {
            matches!(probe.runs_on("smolmachines"), RunsOn::Runs { .. })
                && holes::ALL
                    .iter()
                    .any(|breach| probe.proven_by.iter().any(|name| name == breach.name()))
        };
        let probes: Vec<_> = catalogue.probes().iter().filter(here).cloned().collect();
        let table = topology(None, false, Version::SEEN).table(&probes, "smolmachines");
        let is_tried = |probe: &&Probe| {
            table
                .iter()
                .any(|(name, _, expected)| name == probe.name && !expected.agrees(Kind::Skipped))
        };
        probes.iter().filter(is_tried).cloned().collect()
    }

    /// Whatever is tried on this backend has an expectation. What leaks of a sound machine is what is known to, and each breach
    /// flips exactly the probes that name it, and those that it does on this release.
    #[test]
    fn every_attempt_has_an_expectation_and_every_breach_its_probes() {
        for release in [Version::new(1, 9, 1), Version::SEEN] {
            every_breach_has_its_probes(release);
        }
    }

    fn every_breach_has_its_probes(release: Version) {
        let probes = probes();
        let leaks = |breach: Option<Breach>| {
            let table = topology(breach, false, release).table(&probes, "smolmachines");
            let mut noticed = Vec::new();
            for (probe, what, expected) in table.iter() {
                let at =
                    format!("{release}: {breach:?}: {probe}: {what}: {expected}: {}", expected.why);
                assert_ne!(expected.kinds, [], "{at}");
                if [Kind::Leaked, Kind::Unreached].iter().any(|kind| expected.agrees(*kind)) {
                    noticed.push((probe.to_owned(), what.to_owned(), expected.why.clone()));
                }
            }
            noticed
        };
        let known = leaks(None);
        for (probe, what, why) in &known {
            assert!(why.contains("127.0.0.1:53 hands it on"), "{probe}: {what}: {why}");
        }
        let mut known_of: Vec<_> = known.iter().map(|(probe, ..)| probe.as_str()).collect();
        known_of.dedup();
        assert_eq!(known_of, ["internet-udp", "internet-v6", "resolver-exfiltration"]);
        for breach in holes::ALL.iter() {
            let is_new = |(probe, what, _): &(String, String, String)| {
                !known.iter().any(|(p, w, _)| (p, w) == (probe, what))
            };
            let flipped = leaks(Some(*breach));
            let mut flipped: Vec<_> =
                flipped.iter().filter(|one| is_new(one)).map(|(probe, ..)| probe.clone()).collect();
            flipped.dedup();
            let mut declared = flip::declared(&probes, *breach, "smolmachines");
            declared
                .extend(holes::flips_also(*breach, release, false).iter().map(ToString::to_string));
            declared.sort();
            assert_eq!(flipped, declared, "{breach:?} on {release}");
        }
    }

    /// Whoever opens the host's loopback to machines is told by the probes what is open then.
    #[test]
    fn with_the_hosts_loopback_a_sound_machine_leaks_what_the_breach_of_it_does() {
        let probes = probes();
        let leaks = |breach, loopback| {
            let table = topology(breach, loopback, Version::SEEN).table(&probes, "smolmachines");
            let leaked = table.iter().filter(|(.., expected)| expected.agrees(Kind::Leaked));
            leaked.map(|(probe, what, _)| (probe.to_owned(), what.to_owned())).collect::<Vec<_>>()
        };
        let opened = leaks(None, true);
        assert!(opened.iter().any(|(probe, _)| probe == "loopback-reach"), "{opened:?}");
        assert_eq!(opened, leaks(Some(Breach::GatewayAllowed), false));
        assert_eq!(opened, leaks(Some(Breach::GatewayAllowed), true));
    }
}
