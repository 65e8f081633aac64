//! Where witnesses stand around a machine on this machine's own network, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use claude_bottle_protocol::prober::Fuse;
use claude_bottle_protocol::witness::{Listener, Opened, Service, Transport, Wanted};
use rand::RngExt as _;

use crate::backend::namespace::real;
use crate::backend::namespace::world::ports;
use crate::backend::smolmachines::plan::GATEWAY;
use crate::lab::{Listening, Sites};
use crate::probe::definition::{Method, Site};

/// In the bundle's net namespace.
pub(super) const BUNDLE: &str = "bundle";
/// On this machine.
pub(super) const HOST: &str = "host";

/// Why everything else is not dialled.
const NOTHING_ELSE: &str = "on this machine's own network nothing is dialled but what a witness of the run is bound to (a private \
                            engine, which takes Linux, root and dockerd, has the other sites)";
/// Why a port of a bundle that is not reached by its own address is not dialled.
const UNPUBLISHED: &str =
    "the bundle is reached by its published ports alone, and this is none of them";
/// What is tried: what dials one address that a witness of the run is bound to.
const TRIED: &[Method] = &[
    Method::Tcp,
    Method::Udp,
    Method::Http,
    Method::TcpFastOpen,
    Method::Mptcp,
    Method::UdpUnconnected,
    Method::Exec,
];
/// Why nothing else is.
const UNTRIED: &str =
    "on this machine's own network nothing is tried but to dial the run's own listeners";

/// The ports from which a random one is taken: those that neither Linux nor macOS gives to clients, in a machine or on this host.
const RANDOM_PORTS: RangeInclusive<u16> = 20_000..=32_000;
/// How many of them are tried.
const PORTS_TRIED: usize = 64;

/// What there is of this machine and of the bundle.
#[derive(Debug, Clone)]
pub(super) struct Around {
    /// The bundle's address.
    bundle: Ipv4Addr,
    /// The bundle's ports that are published on this machine's loopback, with the ports there; none where its address is reached.
    published: BTreeMap<u16, u16>,
    /// Whether the egress daemon listens on every address of the bundle.
    egress_everywhere: bool,
    /// This machine's own addresses.
    pub(super) own: Vec<IpAddr>,
    /// Ports that no client is given: one of loopback, and one of the other addresses.
    pub(super) random: [u16; 2],
}

/// A listener, what it stands for, where it is found, and from where.
struct Stood {
    listener: Listener,
    site: Site,
    port: String,
    dialled_as: Vec<IpAddr>,
    at: SocketAddr,
    control: &'static str,
}

impl Around {
    /// Around a bundle at this address, or with these ports published if it is not reached there.
    pub(super) fn new(
        bundle: Ipv4Addr,
        published: BTreeMap<u16, u16>,
        egress_everywhere: bool,
        own: Vec<IpAddr>,
    ) -> Self {
        let random = [free_port(&real::ADDRESSES), free_port(&own)];
        Self { bundle, published, egress_everywhere, own, random }
    }

    /// What the witness in the bundle's net namespace opens.
    pub(super) fn wanted_in_bundle(&self) -> Wanted {
        wanted(self.in_bundle())
    }

    /// What the witness on this machine opens.
    pub(super) fn wanted_on_machine(&self) -> Wanted {
        wanted(self.on_machine())
    }

    /// The sites, now that the witnesses have opened what they could.
    pub(super) fn sites(&self, in_bundle: &Opened, here: &Opened) -> Sites {
        let mut sites = Sites::default();
        sites.nothing_else = Some(NOTHING_ELSE.to_owned());
        let untried = Method::ALL.iter().filter(|method| !TRIED.contains(method));
        sites.untried = untried.map(|method| (*method, UNTRIED)).collect();
        if !self.published.is_empty() && !self.published.contains_key(&ports::EGRESS) {
            sites.lacks(Site::Bundle, "egress", Transport::Tcp, UNPUBLISHED.to_owned());
        }
        let all = self.in_bundle().into_iter().map(|one| (one, in_bundle));
        for (stood, opened) in all.chain(self.on_machine().into_iter().map(|one| (one, here))) {
            let Stood { listener, site, port, dialled_as, at, control } = stood;
            let Listener { id, transport, service, .. } = listener;
            if let Some((_, why)) = opened.failed.iter().find(|(failed, _)| *failed == id) {
                sites.lacks(site, &port, transport, why.clone());
                continue;
            }
            let listening = Listening {
                key: 0,
                id,
                name: format!("{site} {transport}/{port}"),
                transport,
                address: at.into(),
                service,
                dialled_as,
                control: control.to_owned(),
                control_dials: at.into(),
            };
            sites.add(site, &port, transport, listening);
        }
        sites
    }

    /// What a prober in the machine may dial: the run's own listeners, as whoever is in there would. Not what is `gone`, which this
    /// machine has lost meanwhile and may be somebody else's by now.
    pub(super) fn fuse(sites: &Sites, gone: &BTreeSet<IpAddr>) -> Fuse {
        let dialled = sites.all().flat_map(|(.., one)| {
            let port = one.address.inet().map_or(0, |bound| bound.port());
            one.dialled_as.iter().map(move |ip| SocketAddr::new(*ip, port))
        });
        let dialled = dialled.filter(|address| !gone.contains(&address.ip()));
        Fuse::Addresses(dialled.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// What a control from this machine may dial: the same where they are.
    pub(super) fn fuse_here(sites: &Sites, gone: &BTreeSet<IpAddr>) -> Fuse {
        let own = sites.all().filter(|(.., one)| one.control == HOST);
        let at = own.filter_map(|(.., one)| one.control_dials.inet());
        Fuse::Addresses(at.filter(|address| !gone.contains(&address.ip())).collect())
    }

    /// Whether a listener that stands for the bundle is found on this machine, where its port is published.
    pub(super) fn is_published(&self, one: &Listening) -> bool {
        let at = |bound: SocketAddr| {
            bound.ip() == Ipv4Addr::LOCALHOST
                && self.published.values().any(|port| *port == bound.port())
        };
        one.address.inet().is_some_and(at)
    }

    /// The gateway's place, and the egress daemon's, over TCP; those that are dialled.
    fn in_bundle(&self) -> Vec<Stood> {
        let (one, any) = (Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
        let (egress, found) = if self.egress_everywhere { (any, self.bundle) } else { (one, one) };
        let places = [
            (100, "gateway", ports::GATEWAY, any, self.bundle),
            (101, "egress", ports::EGRESS, egress, found),
        ];
        let stood = |(id, name, port, bound, found): (u32, &str, u16, Ipv4Addr, Ipv4Addr)| {
            // Where ports are published, there is no other way to it, and its own address may be somebody else's here.
            let (dialled_as, at, control) = match self.published.get(&port) {
                Some(port) => (GATEWAY, (one, *port), HOST),
                None if self.published.is_empty() => (self.bundle, (found, port), BUNDLE),
                None => return None,
            };
            let (transport, service) = (Transport::Tcp, Service::Echo);
            Some(Stood {
                listener: Listener { id, transport, address: (bound, port).into(), service },
                site: Site::Bundle,
                port: name.to_owned(),
                dialled_as: vec![dialled_as.into()],
                at: at.into(),
                control,
            })
        };
        places.into_iter().filter_map(stood).collect()
    }

    /// This machine's loopback, and its other addresses.
    fn on_machine(&self) -> Vec<Stood> {
        let mut all: Vec<Stood> = Vec::new();
        let mut add = |site, name: &str, transport, (at, service): (SocketAddr, Service)| {
            let id = 200 + u32::try_from(all.len()).expect("few listeners");
            let listener = Listener { id, transport, address: at, service };
            // The monitor opens that one for whoever dials its own address.
            let monitor = (at.ip() == Ipv4Addr::LOCALHOST).then_some(GATEWAY.into());
            let dialled_as = [at.ip()].into_iter().chain(monitor).collect();
            let port = name.to_owned();
            all.push(Stood { listener, site, port, dialled_as, at, control: HOST });
        };
        let [on_loopback, elsewhere] = self.random;
        for transport in [Transport::Tcp, Transport::Udp] {
            for (name, port) in [("discard", ports::DISCARD), ("random", on_loopback)] {
                for ip in real::ADDRESSES {
                    let at = (SocketAddr::new(ip, port), Service::Echo);
                    add(Site::HostLoopback, name, transport, at);
                }
            }
            for (name, port) in [("discard", ports::DISCARD), ("random", elsewhere)] {
                for ip in &self.own {
                    let at = (SocketAddr::new(*ip, port), Service::Echo);
                    add(Site::HostGateway, name, transport, at);
                }
            }
        }
        for port in ports::ENGINE {
            for ip in &self.own {
                let at = (SocketAddr::new(*ip, *port), Service::Http);
                add(Site::ControlPlane, &port.to_string(), Transport::Tcp, at);
            }
        }
        all
    }
}

/// A port that no client is given, and nobody has at any of these addresses; one that somebody has, where there is no other.
fn free_port(addresses: &[IpAddr]) -> u16 {
    let taken = |at: SocketAddr| {
        let errors = [TcpListener::bind(at).err(), UdpSocket::bind(at).err()];
        errors.into_iter().flatten().any(|error| error.kind() == ErrorKind::AddrInUse)
    };
    let mut ports = (0..PORTS_TRIED).map(|_| rand::rng().random_range(RANDOM_PORTS));
    let is_free = |port: &u16| !addresses.iter().any(|ip| taken((*ip, *port).into()));
    ports.find(is_free).unwrap_or(*RANDOM_PORTS.start())
}

/// Each by itself: one that cannot be opened keeps no other from it.
fn wanted(stood: Vec<Stood>) -> Wanted {
    let groups = stood.into_iter().map(|one| vec![one.listener]).collect();
    Wanted { groups, sockets: Vec::new() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::probe::definition::To;

    pub(in super::super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 2);

    pub(in super::super) fn around(loopback: bool, egress_everywhere: bool) -> Around {
        let published = [(ports::GATEWAY, 49_153), (ports::EGRESS, 49_154)];
        let taken = match (loopback, egress_everywhere) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        let published = published.into_iter().take(taken).collect();
        let own = ["192.168.7.7", "2001:db8::7", "10.210.0.1"].map(|ip| ip.parse().unwrap());
        Around::new(ADDRESS, published, egress_everywhere, own.into())
    }

    /// All that stands, as if it had been opened.
    pub(in super::super) fn standing(around: &Around) -> Sites {
        around.sites(&Opened::default(), &Opened::default())
    }

    fn dialled(sites: &Sites, port: &str) -> Vec<String> {
        let to = To { site: Site::Bundle, port: port.into(), spelled: None };
        let targets = sites.targets(&to, Transport::Tcp).unwrap();
        targets.into_iter().map(|one| format!("{}:{}", one.dial.host, one.dial.port)).collect()
    }

    /// Loopback, this machine's own addresses, the monitor's and the bundle's: there is nothing else to dial.
    #[test]
    fn nothing_is_dialled_that_is_somebody_elses() {
        for (loopback, egress) in [(false, false), (false, true), (true, false), (true, true)] {
            let around = around(loopback, egress);
            let sites = standing(&around);
            let Fuse::Addresses(dialled) = Around::fuse(&sites, &BTreeSet::new()) else {
                panic!("a list")
            };
            assert!(!dialled.is_empty());
            for address in &dialled {
                let ip = address.ip();
                let ours = ip.is_loopback() || around.own.contains(&ip) || ip == GATEWAY;
                assert!(ours || (ip == ADDRESS && !loopback), "{address}");
                assert_ne!(address.port(), 0);
            }
            let Fuse::Addresses(here) = Around::fuse_here(&sites, &BTreeSet::new()) else {
                panic!("a list")
            };
            for ip in here.iter().map(SocketAddr::ip) {
                assert!(ip.is_loopback() || around.own.contains(&ip), "{ip}");
            }
            let lost = BTreeSet::from([around.own[0]]);
            let Fuse::Addresses(left) = Around::fuse_here(&sites, &lost) else { panic!("a list") };
            assert!(left.len() < here.len() && left.iter().all(|one| one.ip() != around.own[0]));
        }
    }

    #[test]
    fn what_listens_here_listens_at_no_wildcard_and_each_has_a_number() {
        let around = around(true, true);
        let mut ids = BTreeSet::new();
        for one in around.on_machine() {
            let ip = one.listener.address.ip();
            assert!(ip.is_loopback() || around.own.contains(&ip), "{ip}");
            assert!(ids.insert(one.listener.id));
        }
        for one in around.in_bundle() {
            assert!(ids.insert(one.listener.id));
        }
    }

    #[test]
    fn a_bundle_is_dialled_by_its_own_address_or_where_it_is_published() {
        assert_eq!(dialled(&standing(&around(false, true)), "gateway"), ["10.210.0.2:8887"]);
        assert_eq!(dialled(&standing(&around(true, false)), "gateway"), ["100.96.0.1:49153"]);
        assert_eq!(dialled(&standing(&around(true, true)), "egress"), ["100.96.0.1:49154"]);
        let egress = To { site: Site::Bundle, port: "egress".into(), spelled: None };
        let unpublished = standing(&around(true, false)).targets(&egress, Transport::Tcp);
        assert_eq!(unpublished.unwrap_err().why, UNPUBLISHED);
    }

    #[test]
    fn what_could_not_be_opened_says_why() {
        let around = around(false, false);
        let failed =
            around.on_machine().iter().map(|one| (one.listener.id, "taken".into())).collect();
        let here = Opened { failed, ..Opened::default() };
        let sites = around.sites(&Opened::default(), &here);
        let to = To { site: Site::HostGateway, port: "random".into(), spelled: None };
        assert_eq!(sites.targets(&to, Transport::Udp).unwrap_err().why, "taken");
        assert_eq!(dialled(&sites, "gateway"), ["10.210.0.2:8887"]);
    }
}
