//! Where the witness listens in the lab, and what each listener stands for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use claude_bottle_protocol::helper::REAL;
use claude_bottle_protocol::witness::{Listener, Service, Transport};

use super::{map, net, ports};
use crate::backend::namespace::real::Opened;
use crate::probe::definition::Site;

/// Where Go programs are usually profiled, on every address if nobody thinks of it.
const STRAY_PORT: u16 = 6060;
/// Where the host has published the neighbour's service.
const PUBLISHED_PORT: u16 = 18_080;
/// The port of metadata services.
const HTTP_PORT: u16 = 80;
/// The ports of the world's servers: ssh, smtp, dns, http, ntp, https, dns over TLS, and what is often used instead.
const WORLD_PORTS: &[u16] = &[22, 25, 53, 80, 123, 443, 853, 8443];
/// Where resolvers are asked, by what name that port goes, and what answers there. Over TLS and HTTPS the nonce alone
/// will do.
const RESOLVES: &[(u16, &str, Service)] =
    &[(53, "dns", Service::Resolver), (853, "dot", Service::Echo), (443, "doh", Service::Echo)];

/// Groups in which things find each other: mDNS (RFC 6762), LLMNR (RFC 4795), SSDP (UPnP Device Architecture).
const GROUPS: &[(&str, IpAddr, u16)] = &[
    ("mdns", IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), 5353),
    ("llmnr", IpAddr::V4(Ipv4Addr::new(224, 0, 0, 252)), 5355),
    ("ssdp", IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900),
];
/// The limited broadcast (RFC 919).
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

/// All of an interface's addresses, in both families.
const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ONE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const ONE_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// One listener of the witness.
#[derive(Debug, Clone)]
pub(super) struct Post {
    /// The net namespace it is in.
    pub(super) net: &'static str,
    /// The listener.
    pub(super) listener: Listener,
    /// With port 0: the group that gets one port.
    pub(super) same_port: Option<u32>,
    /// What it stands for.
    pub(super) stands: Vec<Stand>,
}

/// What a listener stands for.
#[derive(Debug, Clone)]
pub(super) struct Stand {
    /// The site.
    pub(super) site: Site,
    /// The port's name there.
    pub(super) port: String,
    /// The addresses under which a bottle would dial it.
    pub(super) dialled_as: Vec<IpAddr>,
    /// The net namespace that its controls come from.
    pub(super) control: &'static str,
    /// The address that its controls dial.
    pub(super) control_dials: IpAddr,
    /// What its controls ask for.
    pub(super) service: Service,
}

impl Stand {
    pub(super) fn new(site: Site, port: impl Into<String>) -> Self {
        let (dialled_as, control_dials) = (Vec::new(), ONE);
        let (port, service) = (port.into(), Service::Echo);
        Self { site, port, dialled_as, control: net::HOST, control_dials, service }
    }

    /// Controls ask for `service`.
    fn serves(self, service: Service) -> Self {
        Self { service, ..self }
    }

    /// Dialled as any of `addresses`; one control for all.
    pub(super) fn dialled_as(self, addresses: &[IpAddr]) -> Self {
        Self { dialled_as: addresses.to_vec(), ..self }
    }

    /// Controls come from `net` and dial `address`.
    pub(super) fn control(self, net: &'static str, address: IpAddr) -> Self {
        Self { control: net, control_dials: address, ..self }
    }

    /// One stand per address, each with a control of its own from `net`.
    fn each(self, net: &'static str, addresses: &[IpAddr]) -> Vec<Self> {
        addresses.iter().map(|ip| self.clone().dialled_as(&[*ip]).control(net, *ip)).collect()
    }
}

/// Who takes what is broadcast to the neighbour's network.
fn directed_broadcast() -> Stand {
    Stand::new(Site::Segment, "directed-broadcast").serves(Service::Segment)
}

/// Every listener in the lab.
#[derive(Debug, Clone, Default)]
pub(super) struct Posts(pub(super) Vec<Post>);

impl Posts {
    /// Those of a sound lab.
    pub(super) fn sound() -> Self {
        let mut posts = Self::default();
        posts.bundle();
        posts.host();
        posts.neighbour();
        posts.segment();
        posts.world();
        posts
    }

    fn bundle(&mut self) {
        let gateway = Stand::new(Site::Bundle, "gateway").dialled_as(&[map::BUNDLE]);
        let gateway = gateway.control(net::BUNDLE, map::BUNDLE);
        self.both(net::BUNDLE, ANY_V4, ports::GATEWAY, &[gateway]);
        let egress = Stand::new(Site::Bundle, "egress").dialled_as(&[map::BUNDLE]);
        let inside = Stand::new(Site::Bundle, "egress-inside").dialled_as(&[ONE]);
        let proxied = Stand::new(Site::Proxied, ports::EGRESS.to_string());
        let stands = [egress, inside, proxied].map(|stand| stand.control(net::BUNDLE, ONE));
        self.both(net::BUNDLE, ONE, ports::EGRESS, &stands);
        self.bundle_below_ports();
    }

    /// A listener that no plan has.
    pub(super) fn stray(&mut self) {
        let address = SocketAddr::new(ANY_V4, STRAY_PORT);
        self.add(net::BUNDLE, Transport::Tcp, address, Vec::new());
    }

    /// What is no port: ICMP echoes and frames. Their controls come over the bottle's own wire, from a prober outside
    /// its walls.
    fn bundle_below_ports(&mut self) {
        for (name, transport, number) in ports::BELOW {
            let stand = Stand::new(Site::Bundle, *name).dialled_as(&[map::BUNDLE]);
            let stands = vec![stand.control(net::BOTTLE, map::BUNDLE)];
            self.add(net::BUNDLE, *transport, SocketAddr::new(map::BUNDLE, *number), stands);
        }
    }

    /// The stand-in host listens on all of its addresses, in both families.
    fn host(&mut self) {
        for (name, port) in [("discard", ports::DISCARD), ("random", 0)] {
            let loopback = Stand::new(Site::HostLoopback, name).dialled_as(&[ONE, TWO, ONE_V6]);
            let mut stands = vec![loopback.control(net::HOST, ONE)];
            let addresses =
                [map::HOST_GATEWAY, map::HOST_LAN, map::NEIGHBOUR_GATEWAY, map::HOST_ON_LINK];
            stands.extend(Stand::new(Site::HostGateway, name).each(net::WORLD, &addresses));
            if port == ports::DISCARD {
                let proxied = Stand::new(Site::Proxied, port.to_string());
                stands.push(proxied.control(net::WORLD, map::HOST_GATEWAY));
                let broadcast = Stand::new(Site::Segment, "broadcast").serves(Service::Segment);
                stands.extend(broadcast.each(net::NEIGHBOUR, &[EVERYBODY]));
                stands.extend(directed_broadcast().each(net::NEIGHBOUR, &[map::NEIGHBOURS]));
            }
            self.both(net::HOST, ANY, port, &stands);
        }
        // The witness is what an engine's proxy would be: a program on the host that hands on to the container.
        let addresses = [map::PUBLISHED, map::HOST_GATEWAY, map::HOST_LAN, map::NEIGHBOUR_GATEWAY];
        let published = Stand::new(Site::PublishedPort, PUBLISHED_PORT.to_string());
        let stands = published.each(net::WORLD, &addresses);
        self.both(net::HOST, ANY_V4, PUBLISHED_PORT, &stands);
        for port in ports::ENGINE {
            let addresses =
                [map::HOST_GATEWAY, map::HOST_LAN, map::NEIGHBOUR_GATEWAY, map::DOCKER_DESKTOP];
            let api = Stand::new(Site::ControlPlane, port.to_string()).serves(Service::Http);
            let stands = api.each(net::WORLD, &addresses);
            let id = self.add(net::HOST, Transport::Tcp, SocketAddr::new(ANY, *port), stands);
            self.0[id as usize].listener.service = Service::Http;
        }
    }

    fn neighbour(&mut self) {
        let stand = Stand::new(Site::Neighbour, ports::NEIGHBOUR.to_string());
        let stands = stand.each(net::HOST, &[map::NEIGHBOUR]);
        self.both(net::NEIGHBOUR, ANY_V4, ports::NEIGHBOUR, &stands);
    }

    /// What another bottle of the same engine serves, at these addresses of its; it is a member of the groups as well.
    pub(super) fn other_bottle(&mut self, addresses: &[IpAddr]) {
        let stand = Stand::new(Site::Neighbour, ports::NEIGHBOUR.to_string());
        let stands = stand.each(net::HOST, addresses);
        self.both(net::OTHER_BOTTLE, ANY_V4, ports::NEIGHBOUR, &stands);
        for (name, group, port) in GROUPS {
            let stand = Stand::new(Site::Segment, *name).serves(Service::Segment);
            let stands = stand.each(net::HOST, &[*group]);
            let address = SocketAddr::new(*group, *port);
            self.add(net::OTHER_BOTTLE, Transport::Udp, address, stands);
        }
    }

    /// Host and neighbour are members of the usual groups, and each is on the other's wire.
    fn segment(&mut self) {
        for (member, other) in [(net::HOST, net::NEIGHBOUR), (net::NEIGHBOUR, net::HOST)] {
            for (name, group, port) in GROUPS {
                let stand = Stand::new(Site::Segment, *name).serves(Service::Segment);
                let stands = stand.each(other, &[*group]);
                self.add(member, Transport::Udp, SocketAddr::new(*group, *port), stands);
            }
        }
        let stand = Stand::new(Site::Segment, "broadcast").serves(Service::Segment);
        let mut stands = stand.each(net::HOST, &[EVERYBODY]);
        stands.extend(directed_broadcast().each(net::HOST, &[map::NEIGHBOURS]));
        let address = SocketAddr::new(ANY_V4, ports::DISCARD);
        self.add(net::NEIGHBOUR, Transport::Udp, address, stands);
    }

    /// One listener per port takes what is meant for any of the world's addresses.
    fn world(&mut self) {
        for port in WORLD_PORTS {
            let stand = |site| Stand::new(site, port.to_string());
            let mut stands = stand(Site::Internet).each(net::HOST, map::INTERNET);
            stands.push(stand(Site::Proxied).control(net::HOST, map::INTERNET[0]));
            stands.extend(stand(Site::InternetV6).each(net::HOST, map::INTERNET_V6));
            stands.extend(stand(Site::PrivateRanges).each(net::HOST, map::PRIVATE));
            stands.extend(stand(Site::Nat64).each(net::HOST, map::NAT64));
            let metadata = stand(Site::Metadata);
            let service = if *port == HTTP_PORT { Service::Http } else { Service::Echo };
            stands.extend(metadata.serves(service).each(net::HOST, map::METADATA));
            if let Some((_, name, service)) =
                RESOLVES.iter().find(|(resolves, ..)| resolves == port)
            {
                let stand = Stand::new(Site::Resolver, *name).serves(*service);
                stands.extend(stand.each(net::HOST, map::RESOLVERS));
            }
            self.both(net::WORLD, ANY, *port, &stands);
        }
        for post in self.of(Site::Metadata, "80") {
            post.listener.service = Service::Http;
        }
        for post in self.of(Site::Resolver, "dns") {
            post.listener.service = Service::Resolver;
        }
    }

    /// A TCP and a UDP listener.
    fn both(&mut self, net: &'static str, bound: IpAddr, port: u16, stands: &[Stand]) {
        for transport in [Transport::Tcp, Transport::Udp] {
            self.add(net, transport, SocketAddr::new(bound, port), stands.to_vec());
        }
    }

    pub(super) fn add(
        &mut self,
        net: &'static str,
        transport: Transport,
        address: SocketAddr,
        stands: Vec<Stand>,
    ) -> u32 {
        let id = u32::try_from(self.0.len()).expect("a few dozen listeners");
        let listener = Listener { id, transport, address, service: Service::Echo };
        let has_ports = matches!(transport, Transport::Tcp | Transport::Udp);
        let same_port = (has_ports && address.port() == 0).then_some(0);
        self.0.push(Post { net, listener, same_port, stands });
        id
    }

    /// Adds a listener that the launcher has opened on its own loopback.
    pub(super) fn adopt(&mut self, opened: &Opened) -> Listener {
        self.adopt_at(opened.port, opened.transport, opened.address)
    }

    /// As [`adopt`](Self::adopt), for a listener that is only planned.
    pub(super) fn adopt_at(
        &mut self,
        port: &str,
        transport: Transport,
        address: SocketAddr,
    ) -> Listener {
        let ip = address.ip();
        let stand = Stand::new(Site::RealLoopback, port).dialled_as(&[ip]);
        let stands = vec![stand.control(REAL, ip)];
        let id = self.add(REAL, transport, address, stands);
        self.0[id as usize].listener.clone()
    }

    /// The listeners for `port` of `site`.
    pub(super) fn of<'a>(
        &'a mut self,
        site: Site,
        port: &'a str,
    ) -> impl Iterator<Item = &'a mut Post> {
        let stands_for = move |post: &&mut Post| {
            post.stands.iter().any(|stand| stand.site == site && stand.port == port)
        };
        self.0.iter_mut().filter(stands_for)
    }
}
