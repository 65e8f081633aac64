//! Where witnesses stand on the machine's own engine, as data.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use claude_bottle_protocol::prober::{Action, Batch, Fuse};
use claude_bottle_protocol::witness::{Listener, Opened, Service, Transport, Wanted};
use ipnet::Ipv4Net;

use crate::backend::docker::plan::Plan;
use crate::backend::docker::spec::{Joined, Spec};
use crate::backend::namespace::world::ports;
use crate::lab::{Listening, Place, Role, Sites, Wire, Wiring};
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

/// The addresses that a run has made, all of them its own.
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
    dialled_as: Ipv4Addr,
    control: &'static str,
    control_dials: Ipv4Addr,
}

impl Around {
    /// No sites yet.
    #[expect(clippy::unused_self, reason = "read beside what stands")]
    pub(super) fn nothing(&self) -> Sites {
        let mut sites = Sites::default();
        sites.nothing_else = Some(NOTHING_ELSE.to_owned());
        sites.untried = UNTRIED.iter().copied().collect();
        sites
    }

    /// What the witness at `place` opens.
    pub(super) fn wanted(&self, place: &str) -> Wanted {
        let mut groups: BTreeMap<usize, Vec<Listener>> = BTreeMap::new();
        for Stood { group, listener, .. } in self.stood(place) {
            groups.entry(group).or_default().push(listener);
        }
        Wanted { groups: groups.into_values().collect(), sockets: Vec::new() }
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
                let listening = Listening {
                    key: 0,
                    id,
                    name: format!("{site} {transport}/{port}"),
                    transport,
                    address: address.into(),
                    service,
                    dialled_as: vec![dialled_as.into()],
                    control: control.to_owned(),
                    control_dials: SocketAddr::new(control_dials.into(), address.port()).into(),
                };
                sites.add(site, &port, transport, listening);
            }
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
        let stand = |port: &str, dialled_as, control, control_dials| Stand {
            site: Site::Bundle,
            port: port.to_owned(),
            dialled_as,
            control,
            control_dials,
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

    /// The host at its addresses on the two networks; whoever is on the network reaches it there.
    fn at_host(&self) -> Vec<Stood> {
        let mut stood = Stands { next: 200, all: Vec::new() };
        let seats = [(self.gateway, BUNDLE), (self.neighbour_gateway, NEIGHBOUR)];
        let stand = |site, port: &str, at, control| {
            vec![Stand { site, port: port.to_owned(), dialled_as: at, control, control_dials: at }]
        };
        for (name, port) in [("discard", ports::DISCARD), ("random", 0)] {
            for (at, control) in seats {
                for transport in [Transport::Tcp, Transport::Udp] {
                    let stands = stand(Site::HostGateway, name, at, control);
                    stood.add(transport, at, port, Service::Echo, stands);
                }
            }
        }
        for port in ports::ENGINE {
            for (at, control) in seats {
                let stands = stand(Site::ControlPlane, &port.to_string(), at, control);
                stood.add(Transport::Tcp, at, *port, Service::Http, stands);
            }
        }
        // One port, at whichever address.
        for one in &mut stood.all {
            if one.listener.address.port() == 0 {
                one.group = 0;
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
                dialled_as: self.neighbour,
                control: HOST,
                control_dials: self.neighbour,
            };
            let any = Ipv4Addr::UNSPECIFIED;
            stood.add(transport, any, ports::NEIGHBOUR, Service::Echo, vec![stand]);
        }
        stood.all
    }

    /// What a prober in the machine's own net namespace may dial: addresses on the two networks, which nobody but the
    /// run's own containers has.
    pub(super) fn fuse_on_host(&self, batch: &Batch) -> Fuse {
        let ours = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => self.subnet.contains(&v4) || self.neighbours.contains(&v4),
            IpAddr::V6(_) => false,
        };
        let dialled = batch.attempts.iter().filter_map(|attempt| match &attempt.action {
            Action::Tcp(target) | Action::Udp(target) => {
                Some(SocketAddr::new(target.host.parse().ok()?, target.port))
            }
            _ => None,
        });
        Fuse::Addresses(dialled.filter(|address| ours(address.ip())).collect())
    }

    /// Bottle and lab, for a drawing.
    pub(super) fn wiring(&self, plan: &Plan, spec: &Spec, sites: &Sites) -> Wiring {
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
            Joined::Own => at(plan.agent_address, self.subnet),
            _ => "in the network of bundle".to_owned(),
        };
        let gateways =
            vec![at(self.gateway, self.subnet), at(self.neighbour_gateway, self.neighbours)];
        let places = vec![
            place(BOTTLE, Role::Bottle, vec![bottle], Vec::new()),
            place(BUNDLE, Role::Bundle, vec![at(self.bundle, self.subnet)], of(&[Site::Bundle])),
            place(HOST, Role::Host, gateways, of(&[Site::HostGateway, Site::ControlPlane])),
            place(
                NEIGHBOUR,
                Role::Neighbour,
                vec![at(self.neighbour, self.neighbours)],
                of(&[Site::Neighbour]),
            ),
        ];
        let wire = |from: &str, to: &str, bridge: &str| Wire {
            from: from.to_owned(),
            from_interface: "eth0".to_owned(),
            to: to.to_owned(),
            to_interface: bridge.to_owned(),
        };
        let own = format!("bridge {}", self.subnet);
        let mut wires = vec![
            wire(BUNDLE, HOST, &own),
            wire(NEIGHBOUR, HOST, &format!("bridge {}", self.neighbours)),
        ];
        if spec.holes.joined == Joined::Own {
            wires.insert(0, wire(BOTTLE, HOST, &own));
        }
        Wiring { places, wires }
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
        at: Ipv4Addr,
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

    fn around() -> Around {
        Around {
            subnet: "10.210.0.0/28".parse().unwrap(),
            bundle: Ipv4Addr::new(10, 210, 0, 2),
            gateway: Ipv4Addr::new(10, 210, 0, 1),
            neighbours: "10.210.0.16/28".parse().unwrap(),
            neighbour: Ipv4Addr::new(10, 210, 0, 19),
            neighbour_gateway: Ipv4Addr::new(10, 210, 0, 17),
            egress_everywhere: false,
        }
    }

    #[test]
    fn nothing_is_bound_or_dialled_but_on_the_two_networks() {
        let around = around();
        let ours = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => around.subnet.contains(&v4) || around.neighbours.contains(&v4),
            IpAddr::V6(_) => false,
        };
        let mut ids = BTreeSet::new();
        for place in [BUNDLE, HOST, NEIGHBOUR] {
            for Stood { listener, stands, .. } in around.stood(place) {
                assert!(ids.insert(listener.id), "a number twice");
                let bound = listener.address.ip();
                // In a container's own namespace, loopback and every address are its own.
                assert!(ours(bound) || place != HOST, "{bound}");
                for stand in stands {
                    let inside = stand.dialled_as.is_loopback() && place == BUNDLE;
                    assert!(ours(stand.dialled_as.into()) || inside, "{}", stand.dialled_as);
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
        let at = |host: &str| Action::Tcp(Target { host: host.into(), port: 80 });
        let actions = ["10.210.0.2", "203.0.113.1", "127.0.0.1", "10.210.0.32", "name.test"];
        let attempt =
            |(id, to)| Attempt { id, nonce: fresh_nonce(), patience_ms: 1, action: at(to) };
        let batch = Batch {
            token: fresh_nonce(),
            fuse: Fuse::Namespaces(vec![1]),
            attempts: (0..).zip(actions).map(attempt).collect(),
        };
        let only = vec!["10.210.0.2:80".parse().unwrap()];
        assert_eq!(around().fuse_on_host(&batch), Fuse::Addresses(only));
    }

    #[test]
    fn what_could_not_be_opened_says_why() {
        let (around, mut sites) = (around(), around().nothing());
        let failed =
            around.stood(HOST).iter().map(|one| (one.listener.id, "taken".into())).collect();
        around.stand(HOST, &Opened { failed, ..Opened::default() }, &mut sites);
        assert_eq!(sites.all().count(), 0);
        let to = crate::probe::definition::To {
            site: Site::HostGateway,
            port: "discard".into(),
            spelled: None,
        };
        assert_eq!(sites.targets(&to, Transport::Tcp).unwrap_err().why, "taken");
    }
}
