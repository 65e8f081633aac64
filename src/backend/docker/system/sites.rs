//! Where witnesses stand on the machine's own engine, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use claude_bottle_protocol::prober::{Action, Batch, Fuse};
use claude_bottle_protocol::witness::{Listener, Opened, Service, Transport, Wanted};
use ipnet::Ipv4Net;

use super::machine::{self, Machine};
use crate::backend::namespace::world::ports;
use crate::lab::{Listening, Sites};
use crate::probe::definition::{Method, Site};

/// In the agent's net namespace, outside of its walls.
pub(super) const BOTTLE: &str = "bottle";
/// In the bundle's.
pub(super) const BUNDLE: &str = "bundle";
/// In the machine's own.
pub(super) const HOST: &str = "host";
/// On the bottle's network, beside it: frames and echoes of the control's come from there, since the bottle's own wire lets
/// none out.
pub(super) const SEGMENT: &str = "segment";
/// On a network like the bottle's.
pub(super) const NEIGHBOUR: &str = "neighbour";
/// All of them.
pub(super) const PLACES: [&str; 5] = [BOTTLE, BUNDLE, HOST, SEGMENT, NEIGHBOUR];

/// Why everything else is not dialled.
const NOTHING_ELSE: &str = "on the machine's own engine nothing is dialled but what a witness of the run is bound to (a private \
                            engine, which takes root and dockerd, has the other sites)";
/// Why some methods are not tried.
const UNTRIED: &[(Method, &str)] = &[
    (
        Method::ListenOnHost,
        "other programs of this machine open listeners too: the bottle's could not be told from theirs",
    ),
    (Method::Unshare, "other processes on the machine's own engine are not looked at"),
    (Method::EnterNamespace, "no net namespace of the machine itself is entered"),
    (Method::StealSocket, "no socket of the machine itself is used"),
];

/// What a run has made, all of it its own.
#[derive(Debug, Clone)]
pub(super) struct Around {
    /// The bottle's subnet.
    pub(super) subnet: Ipv4Net,
    /// The bundle in it.
    pub(super) bundle: Ipv4Addr,
    /// The host in it.
    pub(super) gateway: Ipv4Addr,
    /// The neighbour's subnet.
    pub(super) neighbours: Ipv4Net,
    /// The neighbour in it.
    pub(super) neighbour: Ipv4Addr,
    /// The host in it.
    pub(super) neighbour_gateway: Ipv4Addr,
    /// Whether the egress daemon listens on every address of the bundle.
    pub(super) egress_everywhere: bool,
    /// What there is of the machine itself.
    pub(super) machine: Machine,
    /// Whether the bottle is in the machine's own net namespace.
    pub(super) in_machine: bool,
}

/// A listener, and what it stands for.
struct Stood {
    /// Listeners of one group get one port, if it is 0.
    group: usize,
    listener: Listener,
    stands: Vec<Stand>,
}

/// What a listener stands for.
struct Stand {
    site: Site,
    port: String,
    dialled_as: IpAddr,
    control: &'static str,
    control_dials: IpAddr,
}

impl Around {
    /// No sites yet.
    pub(super) fn nothing(&self) -> Sites {
        let mut sites = Sites::default();
        sites.nothing_else = Some(NOTHING_ELSE.to_owned());
        sites.untried = UNTRIED.iter().copied().collect();
        if self.in_machine {
            sites.untried.extend(machine::untried());
        }
        sites
    }

    /// What the witness at `place` opens.
    pub(super) fn wanted(&self, place: &str) -> Wanted {
        let mut groups: BTreeMap<usize, Vec<Listener>> = BTreeMap::new();
        for Stood { group, listener, .. } in self.stood(place) {
            groups.entry(group).or_default().push(listener);
        }
        let sockets = if place == HOST { self.machine.sockets() } else { Vec::new() };
        Wanted { groups: groups.into_values().collect(), sockets }
    }

    /// Adds the sites that the witness at `place` stands for, now that it has opened what it could.
    pub(super) fn stand(&self, place: &str, opened: &Opened, sites: &mut Sites) {
        for Stood { listener, stands, .. } in self.stood(place) {
            let Listener { id, transport, address, service } = listener;
            let failed = opened.failed.iter().find(|(failed, _)| *failed == id);
            let bound = opened.listening.iter().find(|(known, _)| *known == id);
            let address = bound.map_or(address, |(_, bound)| *bound);
            for Stand { site, port, dialled_as, control, control_dials } in stands {
                if let Some((_, why)) = failed {
                    sites.lacks(site, &port, transport, why.clone());
                    continue;
                }
                if self.in_machine && place != HOST && dialled_as.is_loopback() {
                    sites.lacks(site, &port, transport, machine::NOT_THERE.to_owned());
                    continue;
                }
                let listening = Listening {
                    key: 0,
                    id,
                    name: format!("{site} {transport}/{port}"),
                    transport,
                    address: address.into(),
                    service,
                    dialled_as: vec![dialled_as],
                    control: control.to_owned(),
                    control_dials: SocketAddr::new(control_dials, address.port()).into(),
                };
                sites.add(site, &port, transport, listening);
            }
        }
        if place == HOST {
            self.machine.stand(opened, sites);
        }
    }

    fn stood(&self, place: &str) -> Vec<Stood> {
        match place {
            BUNDLE => self.at_bundle(),
            HOST => self.at_host(),
            NEIGHBOUR => self.at_neighbour(),
            _ => Vec::new(),
        }
    }

    fn at_bundle(&self) -> Vec<Stood> {
        let (one, any) = (Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
        let stand = |port: &str, dialled_as: Ipv4Addr, control, control_dials: Ipv4Addr| Stand {
            site: Site::Bundle,
            port: port.to_owned(),
            dialled_as: dialled_as.into(),
            control,
            control_dials: control_dials.into(),
        };
        let mut stood = Stands { next: 100, all: Vec::new() };
        let egress = if self.egress_everywhere { any } else { one };
        for transport in [Transport::Tcp, Transport::Udp] {
            let gateway = stand("gateway", self.bundle, BUNDLE, self.bundle);
            stood.add(transport, any, ports::GATEWAY, Service::Echo, vec![gateway]);
            let reached = stand("egress", self.bundle, BUNDLE, one);
            let inside = stand("egress-inside", one, BUNDLE, one);
            stood.add(transport, egress, ports::EGRESS, Service::Echo, vec![reached, inside]);
        }
        for (name, transport, number) in ports::BELOW {
            let below = stand(name, self.bundle, SEGMENT, self.bundle);
            stood.add(*transport, self.bundle, *number, Service::Echo, vec![below]);
        }
        stood.all
    }

    /// The host at its addresses on the two networks, where whoever is on the network reaches it, and on its loopback.
    fn at_host(&self) -> Vec<Stood> {
        let mut stood = Stands { next: 200, all: Vec::new() };
        let seats = [(self.gateway, BUNDLE), (self.neighbour_gateway, NEIGHBOUR)];
        let stand = |site, port: &str, at: IpAddr, control| {
            vec![Stand { site, port: port.to_owned(), dialled_as: at, control, control_dials: at }]
        };
        for (name, port) in [("discard", ports::DISCARD), ("random", 0)] {
            for (at, control) in seats {
                for transport in [Transport::Tcp, Transport::Udp] {
                    let stands = stand(Site::HostGateway, name, at.into(), control);
                    stood.add(transport, at, port, Service::Echo, stands);
                }
            }
        }
        for port in ports::ENGINE {
            for (at, control) in seats {
                let stands = stand(Site::ControlPlane, &port.to_string(), at.into(), control);
                stood.add(Transport::Tcp, at, *port, Service::Http, stands);
            }
        }
        // One port, at whichever address.
        for one in &mut stood.all {
            if one.listener.address.port() == 0 {
                one.group = 0;
            }
        }
        for (name, address) in self.machine.loopback() {
            for transport in [Transport::Tcp, Transport::Udp] {
                let stands = stand(Site::RealLoopback, name, address.ip(), HOST);
                stood.add(transport, address.ip(), address.port(), Service::Echo, stands);
            }
        }
        stood.all
    }

    fn at_neighbour(&self) -> Vec<Stood> {
        let mut stood = Stands { next: 300, all: Vec::new() };
        for transport in [Transport::Tcp, Transport::Udp] {
            let stand = Stand {
                site: Site::Neighbour,
                port: ports::NEIGHBOUR.to_string(),
                dialled_as: self.neighbour.into(),
                control: HOST,
                control_dials: self.neighbour.into(),
            };
            let any = Ipv4Addr::UNSPECIFIED;
            stood.add(transport, any, ports::NEIGHBOUR, Service::Echo, vec![stand]);
        }
        stood.all
    }

    /// What a control in the machine's own net namespace may dial: addresses on the two networks, which nobody but the run's own
    /// containers has, and the run's own listeners on loopback.
    pub(super) fn fuse_on_host(&self, batch: &Batch, sites: &Sites) -> Fuse {
        let own = self.listeners(sites);
        let dialled = batch.attempts.iter().filter_map(|attempt| match &attempt.action {
            Action::Tcp(target) | Action::Udp(target) => {
                Some(SocketAddr::new(target.host.parse().ok()?, target.port))
            }
            _ => None,
        });
        let permitted = |address: &SocketAddr| self.is_ours(address.ip()) || own.contains(address);
        Fuse::Addresses(dialled.filter(permitted).collect())
    }

    /// What a bottle in the machine's own net namespace may dial: the run's own listeners, at addresses that are not somebody
    /// else's there.
    pub(super) fn fuse_in_machine(&self, sites: &Sites) -> Fuse {
        Fuse::Addresses(self.listeners(sites).into_iter().collect())
    }

    fn listeners(&self, sites: &Sites) -> BTreeSet<SocketAddr> {
        let mut all = BTreeSet::new();
        for (site, .., one) in sites.all() {
            let Some(bound) = one.address.inet() else { continue };
            let there =
                one.dialled_as.iter().filter(|ip| self.is_ours(**ip) || site == Site::RealLoopback);
            all.extend(there.map(|ip| SocketAddr::new(*ip, bound.port())));
        }
        all
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => self.subnet.contains(&v4) || self.neighbours.contains(&v4),
            IpAddr::V6(_) => false,
        }
    }
}

/// Listeners, numbered, each in a group of its own.
struct Stands {
    next: u32,
    all: Vec<Stood>,
}

impl Stands {
    fn add(
        &mut self,
        transport: Transport,
        at: impl Into<IpAddr>,
        port: u16,
        service: Service,
        stands: Vec<Stand>,
    ) {
        let address = SocketAddr::new(at.into(), port);
        let listener = Listener { id: self.next, transport, address, service };
        self.next += 1;
        self.all.push(Stood { group: self.next as usize, listener, stands });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use claude_bottle_protocol::prober::{Attempt, Target};

    use super::*;
    use crate::probe::attempt::fresh_nonce;
    use crate::probe::definition::To;

    fn around() -> Around {
        Around {
            subnet: "10.210.0.0/28".parse().unwrap(),
            bundle: Ipv4Addr::new(10, 210, 0, 2),
            gateway: Ipv4Addr::new(10, 210, 0, 1),
            neighbours: "10.210.0.16/28".parse().unwrap(),
            neighbour: Ipv4Addr::new(10, 210, 0, 19),
            neighbour_gateway: Ipv4Addr::new(10, 210, 0, 17),
            egress_everywhere: false,
            machine: Machine::new("/sockets/docker.sock".into()),
            in_machine: false,
        }
    }

    /// All that stands, as if it had been opened.
    fn standing(around: &Around) -> Sites {
        let mut sites = around.nothing();
        for place in [BUNDLE, HOST, NEIGHBOUR] {
            around.stand(place, &Opened::default(), &mut sites);
        }
        sites
    }

    #[test]
    fn nothing_is_bound_or_dialled_but_on_the_two_networks_and_on_loopback() {
        let around = around();
        let ours = |ip: IpAddr| around.is_ours(ip) || ip.is_loopback();
        let mut ids = BTreeSet::new();
        for place in [BUNDLE, HOST, NEIGHBOUR] {
            for Stood { listener, stands, .. } in around.stood(place) {
                assert!(ids.insert(listener.id), "a number twice");
                let bound = listener.address.ip();
                // In a container's own namespace, loopback and every address are its own.
                assert!(ours(bound) || place != HOST, "{bound}");
                for stand in stands {
                    assert!(ours(stand.dialled_as), "{}", stand.dialled_as);
                }
            }
        }
    }

    #[test]
    fn the_random_port_is_one_at_every_address() {
        let wanted = around().wanted(HOST);
        let random = wanted.groups.iter().filter(|group| group[0].address.port() == 0);
        assert_eq!(random.map(Vec::len).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn on_the_host_nothing_else_is_dialled_whatever_the_batch_says() {
        let around = around();
        let sites = standing(&around);
        let ours = around.machine.loopback().map(|(_, address)| address).last().unwrap();
        let to = |at: &str| {
            let (host, port) = at.rsplit_once(':').unwrap();
            Action::Tcp(Target { host: host.into(), port: port.parse().unwrap() })
        };
        let loopback = ours.to_string().replace(['[', ']'], "");
        let actions = [
            "10.210.0.2:80",
            loopback.as_str(),
            "203.0.113.1:80",
            "127.0.0.1:80",
            "127.0.0.1:9099",
            "10.210.0.32:80",
            "name.test:80",
        ];
        let attempt =
            |(id, at)| Attempt { id, nonce: fresh_nonce(), patience_ms: 1, action: to(at) };
        let batch = Batch {
            token: fresh_nonce(),
            fuse: Fuse::Namespaces(vec![1]),
            attempts: (0..).zip(actions).map(attempt).collect(),
        };
        let only = vec!["10.210.0.2:80".parse().unwrap(), ours];
        assert_eq!(around.fuse_on_host(&batch, &sites), Fuse::Addresses(only));
    }

    #[test]
    fn a_bottle_in_the_machines_network_dials_the_runs_own_listeners_and_does_nothing_else() {
        let around = Around { in_machine: true, ..around() };
        let sites = standing(&around);
        let Fuse::Addresses(dialled) = around.fuse_in_machine(&sites) else { panic!("a list") };
        let own: Vec<_> = around.machine.loopback().map(|(_, address)| address).collect();
        assert!(own.iter().all(|address| dialled.contains(address)), "{dialled:?}");
        for address in &dialled {
            assert!(around.is_ours(address.ip()) || own.contains(address), "{address}");
        }
        // What is on the bundle's loopback is on somebody else's here.
        let inside = To { site: Site::Bundle, port: "egress-inside".into(), spelled: None };
        assert_eq!(sites.targets(&inside, Transport::Tcp).unwrap_err().why, machine::NOT_THERE);
        for method in [Method::Inbound, Method::AddRoute, Method::Multicast, Method::Frame] {
            assert!(sites.untried.contains_key(&method), "{method}");
        }
        assert!(!sites.untried.contains_key(&Method::Tcp));
    }

    #[test]
    fn what_could_not_be_opened_says_why() {
        let (around, mut sites) = (around(), around().nothing());
        let listeners = around.stood(HOST).into_iter().map(|one| one.listener.id);
        let sockets = around.machine.sockets().into_iter().map(|one| one.id);
        let failed = listeners.chain(sockets).map(|id| (id, "taken".into())).collect();
        around.stand(HOST, &Opened { failed, ..Opened::default() }, &mut sites);
        assert_eq!(sites.all().count(), 0);
        let to = To { site: Site::HostGateway, port: "discard".into(), spelled: None };
        assert_eq!(sites.targets(&to, Transport::Tcp).unwrap_err().why, "taken");
    }
}
