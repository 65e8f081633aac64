//! Follows a packet through net namespaces: which routes it takes, who forwards it, who listens, and whether an answer
//! finds its way back.
//!
//! The rules are those of Linux with `rp_filter` off, as the labs set it: an address belongs to its net namespace and
//! not to its interface (`ip(7)`, the weak host model), also for ARP; a neighbour solicitation is answered on the
//! address's own interface alone (RFC 4861 §7.2.3).

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use claude_bottle_protocol::helper::{End, Forwarder, Lab, Net, REAL};
use claude_bottle_protocol::prober::How;
use claude_bottle_protocol::witness::{Listener, Transport};
use ipnet::IpNet;

use super::{Barrier, Monitor, Topology};

/// The most nets that a packet crosses: any more is a loop of routes.
const MOST_HOPS: usize = 16;

/// The net namespaces of a topology.
#[derive(Clone, Copy)]
pub(super) struct Network<'a> {
    topology: &'a Topology,
}

/// What came of one datagram, or of one attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Course {
    /// The listener that gets what was sent.
    pub(super) listener: Option<u32>,
    /// The listener to which a connection stays half open, since no answer finds its way back.
    pub(super) half_open: Option<u32>,
    /// How it looks to the client.
    pub(super) how: How,
    /// The way, in words.
    pub(super) way: Way,
}

/// The hops of a packet, then what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) start: String,
    pub(super) hops: Vec<(String, String)>,
    pub(super) end: String,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.start)?;
        for (interface, net) in &self.hops {
            write!(f, " {interface} → {net}")?;
        }
        write!(f, ": {}", self.end)
    }
}

/// Where a packet has got to.
pub(super) struct Arrived {
    pub(super) net: String,
    pub(super) source: IpAddr,
}

/// Why a packet got no further, and where that is.
pub(super) struct Stopped {
    pub(super) net: String,
    /// The source address, once one had been chosen.
    pub(super) source: Option<IpAddr>,
    /// Whether the net says so to the sender: its own stack, or an ICMP error.
    pub(super) told: bool,
    pub(super) why: String,
}

/// Where a net sends what is for one destination.
struct NextHop<'a> {
    interface: &'a str,
    via: IpAddr,
}

impl<'a> Network<'a> {
    pub(super) fn new(topology: &'a Topology) -> Self {
        Self { topology }
    }

    pub(super) fn lab(self) -> &'a Lab {
        &self.topology.lab
    }

    /// What comes of sending to `to` from the net `from`.
    pub(super) fn send(self, from: &str, transport: Transport, to: SocketAddr) -> Course {
        let monitor = self.topology.monitors.iter().find(|monitor| monitor.machine == from);
        let taken =
            |monitor: &&Monitor| monitor.takes_local(transport) || !self.is_local(from, to.ip());
        if let Some(monitor) = monitor.filter(taken) {
            return self.by_monitor(monitor, transport, to);
        }
        let mut way = Way { start: from.to_owned(), ..Way::default() };
        let on_link = is_on_link(to.ip());
        let walked = if on_link {
            self.over_a_wire(from, to.ip(), &mut way)
        } else {
            self.walk(from, None, to.ip(), &mut way)
        };
        let arrived = match walked {
            Ok(arrived) => arrived,
            Err(stopped) => {
                let told = stopped.told && self.gets_back(&stopped.net, stopped.source, from);
                way.end = stopped.why;
                let how = if told { How::Unreachable } else { How::TimedOut };
                return Course { listener: None, half_open: None, how, way };
            }
        };
        let back = on_link || self.gets_back(&arrived.net, Some(arrived.source), from);
        let Some(listener) = self.listener(&arrived.net, transport, to) else {
            if let Some(forwarder) = self.forwarder(&arrived.net, transport, to) {
                return self.handed_on(forwarder, transport, way);
            }
            way.end = format!("nothing listens on {transport} {}", self.shown(to));
            let how = if back { How::Refused } else { How::TimedOut };
            return Course { listener: None, half_open: None, how, way };
        };
        way.end = format!("listens on {transport} {}", self.shown(listener.address));
        let source = arrived.source;
        match (back, transport) {
            (true, _) => {
                Course { listener: Some(listener.id), half_open: None, how: How::Answered, way }
            }
            // One way is enough for a datagram.
            (false, Transport::Udp) => {
                let _ = write!(way.end, ", though no answer finds its way back to {source}");
                let (listener, how) = (Some(listener.id), How::TimedOut);
                Course { listener, half_open: None, how, way }
            }
            (false, _) => {
                let _ = write!(way.end, ", but no answer finds its way back to {source}");
                let half_open = (transport == Transport::Tcp).then_some(listener.id);
                Course { listener: None, half_open, how: How::TimedOut, way }
            }
        }
    }

    /// The way of an address of the net `to`, if whoever listens there on every address gets and answers what `from` sends
    /// to it.
    pub(super) fn gets_in(self, from: &str, to: &str, address: IpAddr) -> Option<String> {
        let mut way = Way { start: from.to_owned(), ..Way::default() };
        let arrived = self.walk(from, None, address, &mut way).ok()?;
        way.end = format!("gets to {address}");
        let answers = arrived.net == to && self.gets_back(to, Some(arrived.source), from);
        answers.then(|| way.to_string())
    }

    /// The addresses of a net that mean the same seen from elsewhere.
    pub(super) fn global_addresses(self, net: &str) -> Vec<IpAddr> {
        let Some(net) = self.net(net) else { return Vec::new() };
        let own = net.addresses.iter().map(|own| own.address);
        own.filter(|ip| net.ipv6 || ip.is_ipv4())
            .filter(|ip| match ip {
                IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
                IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
            })
            .collect()
    }

    fn gets_back(self, net: &str, source: Option<IpAddr>, to: &str) -> bool {
        let Some(source) = source else { return net == to };
        let back = self.walk(net, Some(source), source, &mut Way::default());
        back.is_ok_and(|arrived| arrived.net == to)
    }

    /// Takes a packet from `net` to wherever `destination` is.
    pub(super) fn walk(
        self,
        net: &str,
        mut source: Option<IpAddr>,
        destination: IpAddr,
        way: &mut Way,
    ) -> Result<Arrived, Stopped> {
        let mut at = net.to_owned();
        let mut came_by = None;
        for hop in 0..MOST_HOPS {
            let stopped = |source, told, why| Stopped { net: at.clone(), source, told, why };
            let for_its_network = || hop > 0 && self.has_broadcast(&at, None, destination);
            if self.is_local(&at, destination) || for_its_network() {
                return Ok(Arrived { source: source.unwrap_or(destination), net: at });
            }
            let Some(here) = self.net(&at) else {
                return Err(stopped(source, true, format!("{destination} is not simulated")));
            };
            if hop > 0 && !here.forward {
                return Err(stopped(source, false, "does not forward".into()));
            }
            let Some(onward) = next_hop(here, destination) else {
                return Err(stopped(source, true, format!("no route to {destination}")));
            };
            let chosen = source.or_else(|| source_address(here, onward.interface, destination));
            source = chosen;
            if chosen.is_none() {
                let why = format!("no address to send from to {destination}");
                return Err(stopped(None, true, why));
            }
            if let Some((told, why)) = self.barred(&at, came_by, onward.interface, destination) {
                return Err(stopped(source, told, why));
            }
            // Several on one interface: a bridge.
            let answers =
                |(_, peer): &(&End, &End)| self.answers_for(&peer.net, &peer.interface, onward.via);
            let other =
                self.wires(&at).filter(|(own, _)| own.interface == onward.interface).find(answers);
            let Some((_, peer)) = other else {
                let why =
                    format!("nobody at the other end of {} has {}", onward.interface, onward.via);
                return Err(stopped(source, false, why));
            };
            way.hops.push((onward.interface.to_owned(), peer.net.clone()));
            came_by = Some(peer.interface.as_str());
            peer.net.clone_into(&mut at);
        }
        Err(Stopped { net: at, source, told: false, why: "the routes go round in circles".into() })
    }

    /// Whether a packet filter of the net drops what came by one interface, or from the net itself, and leaves by another: whether
    /// the sender is told, and why.
    fn barred(
        self,
        net: &str,
        came_by: Option<&str>,
        leaves_by: &str,
        to: IpAddr,
    ) -> Option<(bool, String)> {
        if self.keeps_in(net, to) {
            return Some((true, format!("the packet filter drops what is for {to}")));
        }
        let closed = |wanted: &str| {
            self.topology.barriers.iter().any(|barrier| {
                matches!(barrier, Barrier::Through { net: here, interface }
                    if here == net && interface == wanted)
            })
        };
        let bars = came_by.is_some_and(|came_by| closed(came_by) || closed(leaves_by));
        (bars && to.is_ipv4()).then(|| (false, "the packet filter forwards nothing there".into()))
    }

    /// Whether a packet filter of the net lets nothing out that is for this address.
    pub(super) fn keeps_in(self, net: &str, to: IpAddr) -> bool {
        self.topology.barriers.iter().any(|barrier| {
            matches!(barrier, Barrier::Leaving { net: here, to: allowed }
                if here == net && !allowed.contains(&to))
        })
    }

    pub(super) fn net(self, name: &str) -> Option<&'a Net> {
        self.lab().nets.iter().find(|net| net.name == name)
    }

    /// Whether a net takes what is for this address. Of the real one, only its loopback is known.
    pub(super) fn is_local(self, name: &str, address: IpAddr) -> bool {
        let Some(net) = self.net(name) else { return name == REAL && address.is_loopback() };
        if address.is_ipv6() && !net.ipv6 {
            return false;
        }
        address.is_loopback() || net.addresses.iter().any(|own| own.address == address)
    }

    /// Whether the net resolves the address to its end of the wire.
    pub(super) fn answers_for(self, net: &str, interface: &str, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => !address.is_loopback() && self.is_local(net, address),
            IpAddr::V6(_) => self.net(net).is_some_and(|net| {
                let here = |own: &claude_bottle_protocol::helper::Address| {
                    own.address == address && own.interface == interface
                };
                net.ipv6 && net.addresses.iter().any(here)
            }),
        }
    }

    /// Who takes what arrives in `net` for `to`.
    fn listener(self, net: &str, transport: Transport, to: SocketAddr) -> Option<&'a Listener> {
        let placed = self.lab().listeners.iter().filter(|placed| placed.net == net);
        let adopted = self.lab().adopted.iter().filter(|_| net == REAL);
        let mut all = placed.map(|placed| &placed.listener).chain(adopted);
        all.find(|listener| {
            listener.transport == transport
                && listener.address.port() == to.port()
                && takes(listener.address.ip(), to.ip())
        })
    }

    /// Who hands on what arrives in `net` for `to`.
    fn forwarder(self, net: &str, transport: Transport, to: SocketAddr) -> Option<&'a Forwarder> {
        let is_heard = matches!(transport, Transport::Tcp | Transport::Udp);
        self.topology.forwarders.iter().find(|one| {
            is_heard
                && one.listens_in == net
                && one.listens_on.port() == to.port()
                && takes(one.listens_on.ip(), to.ip())
        })
    }

    /// It answers if whom it asks does.
    fn handed_on(self, forwarder: &Forwarder, transport: Transport, way: Way) -> Course {
        let Forwarder { listens_on, asks_from, asks, .. } = forwarder;
        let further = self.send(asks_from, transport, *asks);
        let end = format!("{listens_on} hands it on: {}", further.way);
        Course { way: Way { end, ..way }, ..further }
    }

    /// An address with its port, where that is known.
    fn shown(self, address: SocketAddr) -> String {
        if !self.topology.random_ports.contains(&address.port()) {
            return address.to_string();
        }
        match address.ip() {
            IpAddr::V4(v4) => format!("{v4}:random"),
            IpAddr::V6(v6) => format!("[{v6}]:random"),
        }
    }
}

/// Whether a socket bound to `bound` takes what is for `to`: the IPv6 wildcard takes IPv4 as well (`ipv6(7)`,
/// `IPV6_V6ONLY` off).
fn takes(bound: IpAddr, to: IpAddr) -> bool {
    match bound {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => to.is_ipv4(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        bound => bound == to,
    }
}

/// Whether the address means something on each wire alone.
fn is_on_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The longest prefix wins; among equals an address' own network does, since it has no metric.
fn next_hop(net: &Net, destination: IpAddr) -> Option<NextHop<'_>> {
    if destination.is_ipv6() && !net.ipv6 {
        return None;
    }
    let own = net.addresses.iter().filter(|own| own.interface != "lo");
    let own = own.filter_map(|own| {
        let hop = NextHop { interface: &own.interface, via: destination };
        Some((IpNet::new(own.address, own.prefix).ok()?.trunc(), hop))
    });
    let routes = net.routes.iter().filter_map(|route| {
        let hop = NextHop { interface: &route.interface, via: route.via.unwrap_or(destination) };
        Some((IpNet::new(route.destination, route.prefix).ok()?, hop))
    });
    // Of several greatest, `max_by_key` takes the last one.
    let all = routes.chain(own).filter(|(to, _)| to.contains(&destination));
    all.max_by_key(|(to, _)| to.prefix_len()).map(|(_, hop)| hop)
}

/// The address that the kernel puts on what leaves by `interface`: its own first one, else any of the net's.
fn source_address(net: &Net, interface: &str, destination: IpAddr) -> Option<IpAddr> {
    let same_family =
        || net.addresses.iter().filter(|own| own.address.is_ipv4() == destination.is_ipv4());
    let own = same_family().find(|own| own.interface == interface);
    own.or_else(|| same_family().next()).map(|own| own.address)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use claude_bottle_protocol::helper::{Address, Bottle, End, Link, Placed, Route};
    use claude_bottle_protocol::witness::Service;

    use super::*;
    use crate::lab::Sites;

    /// A bottle in `net`.
    pub(in super::super) fn bottle(net: &str) -> Bottle {
        Bottle {
            net: net.to_owned(),
            hostname: String::new(),
            hosts: Vec::new(),
            env: BTreeMap::new(),
            mounts: Vec::new(),
            executable: true,
            seccomp: true,
            user_namespaces: false,
            own_processes: true,
            io_uring: false,
            capabilities: Vec::new(),
            nameservers: Vec::new(),
            left_open: Vec::new(),
        }
    }

    pub(in super::super) fn address(interface: &str, text: &str) -> Address {
        let (address, prefix) = text.split_once('/').unwrap();
        Address {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
        }
    }

    fn net(name: &str, addresses: &[(&str, &str)], routes: &[(&str, Option<&str>, &str)]) -> Net {
        let address = |(interface, text): &(&str, &str)| address(interface, text);
        let route = |(to, via, interface): &(&str, Option<&str>, &str)| {
            let to: IpNet = to.parse().unwrap();
            Route {
                destination: to.addr(),
                prefix: to.prefix_len(),
                via: via.map(|via| via.parse().unwrap()),
                interface: (*interface).to_owned(),
            }
        };
        Net {
            name: name.to_owned(),
            ipv6: true,
            addresses: addresses.iter().map(address).collect(),
            routes: routes.iter().map(route).collect(),
            ..Net::default()
        }
    }

    fn link(a: (&str, &str), b: (&str, &str)) -> Link {
        let end =
            |(net, interface): (&str, &str)| End { net: net.into(), interface: interface.into() };
        Link { a: end(a), b: end(b) }
    }

    pub(in super::super) fn listens(
        id: u32,
        net: &str,
        transport: Transport,
        address: &str,
    ) -> Placed {
        let address = address.parse().unwrap();
        let listener = Listener { id, transport, address, service: Service::Echo };
        Placed { net: net.to_owned(), listener, same_port: None }
    }

    /// `in` ─ `mid` ─ `out`, where `mid` forwards, and `out` has 203.0.113.1 on its loopback.
    pub(in super::super) fn chain() -> Topology {
        let mut mid = net(
            "mid",
            &[("m0", "10.0.0.1/24"), ("m1", "10.1.0.1/24")],
            &[("203.0.113.0/24", Some("10.1.0.2"), "m1")],
        );
        mid.forward = true;
        let lab = Lab {
            nets: vec![
                net("in", &[("i0", "10.0.0.2/24")], &[("0.0.0.0/0", Some("10.0.0.1"), "i0")]),
                mid,
                net(
                    "out",
                    &[("o0", "10.1.0.2/24"), ("lo", "203.0.113.1/32")],
                    &[("10.0.0.0/24", Some("10.1.0.1"), "o0")],
                ),
            ],
            links: vec![link(("in", "i0"), ("mid", "m0")), link(("mid", "m1"), ("out", "o0"))],
            listeners: vec![
                listens(1, "out", Transport::Tcp, "[::]:80"),
                listens(2, "out", Transport::Udp, "0.0.0.0:53"),
                listens(3, "in", Transport::Tcp, "127.0.0.1:9"),
                listens(4, "mid", Transport::Tcp, "127.0.0.1:9"),
            ],
            ..Lab::default()
        };
        Topology {
            lab,
            bottle: bottle("in"),
            sites: Sites::default(),
            allowed: BTreeSet::new(),
            forwarders: Vec::new(),
            inbound: None,
            host: String::new(),
            processes: Vec::new(),
            gateway: None,
            random_ports: BTreeSet::new(),
            barriers: Vec::new(),
            monitors: Vec::new(),
            default_profile: false,
        }
    }

    fn tcp(topology: &Topology, to: &str) -> Course {
        Network::new(topology).send("in", Transport::Tcp, to.parse().unwrap())
    }

    fn udp(topology: &Topology, to: &str) -> Course {
        Network::new(topology).send("in", Transport::Udp, to.parse().unwrap())
    }

    fn told(course: &Course) -> (Option<u32>, How, String) {
        (course.listener, course.how, course.way.to_string())
    }

    #[test]
    fn a_packet_is_forwarded_to_its_listener_and_the_v6_wildcard_takes_v4() {
        let way = "in i0 → mid m1 → out: listens on tcp [::]:80".to_owned();
        assert_eq!(told(&tcp(&chain(), "203.0.113.1:80")), (Some(1), How::Answered, way));
        assert_eq!(tcp(&chain(), "10.1.0.2:80").listener, Some(1), "another address of its");
        let closed = "in i0 → mid m1 → out: nothing listens on tcp 203.0.113.1:81".to_owned();
        assert_eq!(told(&tcp(&chain(), "203.0.113.1:81")), (None, How::Refused, closed));
    }

    #[test]
    fn without_forwarding_it_stays_in_the_middle() {
        let mut topology = chain();
        topology.lab.nets[1].forward = false;
        let way = "in i0 → mid: does not forward".to_owned();
        assert_eq!(told(&tcp(&topology, "203.0.113.1:80")), (None, How::TimedOut, way));
        assert_eq!(tcp(&topology, "10.1.0.1:80").how, How::Refused, "its own addresses answer");
    }

    #[test]
    fn without_a_way_back_tcp_stays_and_a_datagram_arrives() {
        let mut topology = chain();
        topology.lab.nets[2].routes.clear();
        let way = "in i0 → mid m1 → out: listens on tcp [::]:80, but no answer finds its way back to \
                   10.0.0.2";
        assert_eq!(told(&tcp(&topology, "203.0.113.1:80")), (None, How::TimedOut, way.to_owned()));
        let (listener, how, _) = told(&udp(&topology, "203.0.113.1:53"));
        assert_eq!((listener, how), (Some(2), How::TimedOut));
        assert_eq!(udp(&topology, "203.0.113.1:54").how, How::TimedOut, "no error comes back");
        assert_eq!(udp(&chain(), "203.0.113.1:54").how, How::Refused);
    }

    #[test]
    fn the_longest_prefix_wins() {
        let mut topology = chain();
        let routes = &mut topology.lab.nets[0].routes;
        let mut wrong = routes[0].clone();
        wrong.destination = "203.0.113.0".parse().unwrap();
        (wrong.prefix, wrong.via) = (24, Some("10.0.0.77".parse().unwrap()));
        routes.insert(0, wrong);
        let way = "in: nobody at the other end of i0 has 10.0.0.77".to_owned();
        assert_eq!(told(&tcp(&topology, "203.0.113.1:80")), (None, How::TimedOut, way));
        assert_eq!(tcp(&topology, "10.1.0.2:80").listener, Some(1), "by the default route");
    }

    #[test]
    fn without_a_route_the_own_stack_says_so() {
        let mut topology = chain();
        topology.lab.nets[0].routes.clear();
        let way = "in: no route to 203.0.113.1".to_owned();
        assert_eq!(told(&tcp(&topology, "203.0.113.1:80")), (None, How::Unreachable, way));
        assert_eq!(tcp(&topology, "10.0.0.1:80").how, How::Refused, "on the link");
    }

    #[test]
    fn a_router_without_a_route_says_so_too() {
        let way = "in i0 → mid: no route to 198.51.100.1".to_owned();
        assert_eq!(told(&tcp(&chain(), "198.51.100.1:80")), (None, How::Unreachable, way));
    }

    #[test]
    fn loopback_is_the_own_one_and_a_literal_takes_itself_alone() {
        let way = "in: listens on tcp 127.0.0.1:9".to_owned();
        assert_eq!(told(&tcp(&chain(), "127.0.0.1:9")), (Some(3), How::Answered, way));
        assert_eq!(tcp(&chain(), "127.0.0.2:9").how, How::Refused);
        assert_eq!(tcp(&chain(), "10.0.0.1:9").how, How::Refused, "mid's own loopback");
        assert_eq!(tcp(&chain(), "[::1]:9").how, How::Refused);
    }

    #[test]
    fn without_ipv6_there_is_no_v6_loopback() {
        let mut topology = chain();
        topology.lab.nets[0].ipv6 = false;
        assert_eq!(tcp(&topology, "[::1]:9").how, How::Unreachable);
    }

    #[test]
    fn what_is_handed_on_arrives_whatever_the_own_routes_say() {
        let mut topology = chain();
        topology.lab.nets[0].routes.clear();
        topology.forwarders.push(Forwarder {
            listens_in: "in".into(),
            listens_on: "127.0.0.11:53".parse().unwrap(),
            asks_from: "mid".into(),
            asks: "203.0.113.1:53".parse().unwrap(),
        });
        let way = "in: 127.0.0.11:53 hands it on: mid m1 → out: listens on udp 0.0.0.0:53";
        assert_eq!(told(&udp(&topology, "127.0.0.11:53")), (Some(2), How::Answered, way.into()));
        assert_eq!(udp(&topology, "127.0.0.1:53").how, How::Refused);
    }

    #[test]
    fn routes_in_a_circle_end() {
        let mut topology = chain();
        topology.lab.nets[1].routes[0].via = Some("10.0.0.2".parse().unwrap());
        topology.lab.nets[1].routes[0].interface = "m0".into();
        topology.lab.nets[0].forward = true;
        let course = tcp(&topology, "203.0.113.1:80");
        assert_eq!((course.listener, course.how), (None, How::TimedOut));
    }
}
