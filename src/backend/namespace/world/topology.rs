//! The plan for the simulator: as it is launched, but for the ports that only the kernel can choose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use claude_bottle_protocol::helper::{Lab, Placed, REAL};
use claude_bottle_protocol::prober::SocketFile;
use claude_bottle_protocol::witness::{Listener, Transport};

use super::gateway::LabGateway;
use super::ports::DISCARD;
use super::{Post, World, net};
use crate::backend::namespace::helper::Built;
use crate::backend::namespace::real;
use crate::breach::Breach;
use crate::expected::{Process, Topology};
use crate::probe::definition::Site;

/// The first of the ports that stand for those which the kernel chooses in the lab.
const RANDOM: u16 = 50_000;
/// The port that stands for the one which it chooses on the real loopback.
const REAL_RANDOM: u16 = 60_000;

impl World {
    /// The world around a sound bottle, or one with the hole that `breach` makes, as the simulator takes it.
    pub(in super::super) fn topology(breach: Option<Breach>) -> Topology {
        let mut world = Self::plan("bottle", breach);
        let (mut random_ports, listening) = number(&mut world.lab.listeners);
        random_ports.insert(REAL_RANDOM);
        for (name, port) in [("discard", DISCARD), ("random", REAL_RANDOM)] {
            for ip in real::ADDRESSES {
                for transport in [Transport::Tcp, Transport::Udp] {
                    let address = SocketAddr::new(ip, port);
                    let adopted = world.posts.adopt_at(name, transport, address);
                    world.lab.adopted.push(adopted);
                }
            }
        }
        world.lab.adopted_sockets.push(world.sockets.real().clone());
        world.lab.adopted_vsock = Some(world.vsock.listener());
        let (inodes, cookies) = (BTreeMap::new(), Vec::new());
        let built = Built { inodes, listening, files: files(&world.lab), cookies };
        let allowed = world.posts.0.iter().filter(|post| is_allowed(post));
        Topology {
            allowed: allowed.map(|post| post.listener.id).collect(),
            sites: world.sites(&built),
            gateway: world.gateway.as_ref().map(LabGateway::plan),
            forwarders: world.forwarders,
            inbound: Some(super::inbound()),
            bottle: world.bottle,
            host: net::HOST.into(),
            processes: processes(&world.lab),
            lab: world.lab,
            random_ports,
            barriers: Vec::new(),
            monitors: Vec::new(),
            default_profile: false,
        }
    }
}

/// Gives those a port that the kernel would choose one for: the ports that only stand for a free one, and every listener's
/// address.
pub(super) fn number(listeners: &mut [Placed]) -> (BTreeSet<u16>, BTreeMap<u32, SocketAddr>) {
    let mut random_ports = BTreeSet::new();
    let mut listening = BTreeMap::new();
    for Placed { listener, same_port, .. } in listeners {
        let has_ports = matches!(listener.transport, Transport::Tcp | Transport::Udp);
        if has_ports && listener.address.port() == 0 {
            // Those that share no port get one each.
            let number = same_port.unwrap_or(1000 + listener.id);
            let port = RANDOM + u16::try_from(number).expect("a few dozen listeners");
            listener.address.set_port(port);
            random_ports.insert(port);
        }
        listening.insert(listener.id, listener.address);
    }
    (random_ports, listening)
}

/// Which files the Unix sockets are does not matter, as long as each is another one.
pub(super) fn files(lab: &Lab) -> BTreeMap<u32, SocketFile> {
    let ids = lab.sockets.iter().map(|placed| placed.listener.id);
    ids.map(|id| (id, SocketFile { device: 0, inode: id.into() })).collect()
}

/// What is in the lab's PID namespace: the witness, which stays in the last net in which it listens; the bundle's init;
/// and probers that send controls. The helper itself is in the real net, which nobody of the lab may enter.
pub(super) fn processes(lab: &Lab) -> Vec<Process> {
    let listens = |net: &str, any: fn(&Listener) -> bool| {
        lab.listeners.iter().any(|placed| placed.net == net && any(&placed.listener))
    };
    let nets = || lab.nets.iter().map(|net| net.name.clone());
    let is_udp: fn(&Listener) -> bool = |listener| listener.transport == Transport::Udp;
    let sockets = nets().filter(|net| listens(net, is_udp));
    let witness = Process {
        net: nets().rfind(|net| listens(net, |_| true)).unwrap_or_else(|| REAL.into()),
        sockets: sockets.chain([REAL.to_owned()]).collect(),
        stays: true,
    };
    let quiet = |net: String, stays| Process { net, sockets: BTreeSet::new(), stays };
    let mut all = vec![witness, quiet(net::BUNDLE.into(), true)];
    all.extend(nets().map(|net| quiet(net, false)));
    all
}

/// The plan allows the gateway, and nothing else.
pub(super) fn is_allowed(post: &Post) -> bool {
    let gateway =
        post.stands.iter().any(|stand| stand.site == Site::Bundle && stand.port == "gateway");
    gateway && post.listener.transport == Transport::Tcp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expected::Kind;
    use crate::probe::catalogue::Catalogue;
    use crate::probe::definition::Method;
    use crate::probe::parse::Known;

    fn catalogue() -> Catalogue {
        Catalogue::embedded(Known::all()).unwrap()
    }

    /// Each probe's expectations, those that are the same told once.
    fn told(breach: Option<Breach>, probes: &[&str]) -> String {
        let catalogue = catalogue();
        let all: Vec<_> =
            probes.iter().map(|probe| catalogue.get(probe).unwrap().clone()).collect();
        World::topology(breach).table(&all, "namespace").to_string()
    }

    const PROBES: &[&str] = &["bundle-reach", "egress-port-bypass", "host-gateway", "smoke-echo"];

    #[test]
    fn of_a_sound_bottle() {
        insta::assert_snapshot!(told(None, PROBES));
    }

    #[test]
    fn of_a_bottle_with_a_wire_to_the_host() {
        insta::assert_snapshot!(told(Some(Breach::LinkToHost), PROBES));
    }

    #[test]
    fn of_a_bottle_without_its_one_route() {
        insta::assert_snapshot!(told(Some(Breach::NoBundleRoute), PROBES));
    }

    #[test]
    fn of_a_bottle_in_the_real_net() {
        let told = told(Some(Breach::NoNetworkNamespace), &["host-gateway", "loopback-reach"]);
        insta::assert_snapshot!(told);
    }

    /// One that refuses everything has shown nothing of what its list refuses.
    #[test]
    fn a_gateway_that_carries_nothing_on_is_no_evidence() {
        let catalogue = catalogue();
        let probes = [catalogue.get("proxy-hosts").unwrap().clone()];
        let kinds = |breach| {
            let table = World::topology(breach).table(&probes, "namespace");
            let kinds: BTreeSet<_> = table.iter().map(|(.., one)| one.kinds.clone()).collect();
            kinds.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(kinds(None), [[Kind::Contained]]);
        assert_eq!(kinds(Some(Breach::GatewayEmptyList)), [[Kind::Inconclusive]]);
    }

    /// Whatever can be tried is tried by some probe, and there is a breach under which it must be noticed. That it then is
    /// noticed, the trials `…::as-expected` show.
    #[test]
    fn every_method_has_a_breach_under_which_it_notices_something() {
        let catalogue = catalogue();
        let mut noticed = BTreeSet::new();
        for breach in super::super::BREACHES.iter() {
            let table = World::topology(Some(*breach)).table(catalogue.probes(), "namespace");
            for (_, what, expected) in table.iter() {
                if expected.kinds.iter().any(|kind| [Kind::Leaked, Kind::Unreached].contains(kind))
                {
                    noticed.extend(what.split(' ').next().map(ToOwned::to_owned));
                }
            }
        }
        for method in Method::ALL {
            assert!(noticed.contains(method.as_str()), "nothing proves the method {method}");
        }
    }

    /// Whatever the catalogue tries has an expectation, and in a sound bottle it is that all is well.
    #[test]
    fn every_attempt_has_an_expectation() {
        let catalogue = catalogue();
        for breach in [None].into_iter().chain(super::super::BREACHES.iter().copied().map(Some)) {
            let table = World::topology(breach).table(catalogue.probes(), "namespace");
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
}
