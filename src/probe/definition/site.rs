//! The places that a bottle might reach.

use crate::written::words;

words! {
    #[what("site")]
    /// A place that a bottle might reach.
    pub enum Site {
        /// The sidecar at its pinned address. Ports: `gateway` (the witness, which stands in for it), `egress` (9099, on the bundle's loopback),
        /// `egress-inside` (the same, as 127.0.0.1 for who has got into the bundle's network), and what
        /// is no port: `icmp` (echo requests), `experimental` (frames of ethertype 0x88b5), `arp`.
        Bundle = "bundle",
        /// The loopback of the lab's stand-in host. Ports: `discard` (9), `random`.
        HostLoopback = "host-loopback",
        /// The loopback of the machine that the launcher runs on. Ports: `discard` (9, where it can be bound), `random`.
        RealLoopback = "real-loopback",
        /// The stand-in host's own addresses: the bridges' gateways, the one on its network, and the link-local one that it has
        /// on every wire. Ports: `discard`, `random`.
        HostGateway = "host-gateway",
        /// What another container has published on the stand-in host, at each address that it is published on. Ports: numbers.
        PublishedPort = "published-port",
        /// Another bottle on the same host. Ports: numbers.
        Neighbour = "neighbour",
        /// Public IPv4 addresses. Ports: numbers.
        Internet = "internet",
        /// Public IPv6 addresses. Ports: numbers.
        InternetV6 = "internet-v6",
        /// An address in each range that is no one's on the internet. Ports: numbers.
        PrivateRanges = "private-ranges",
        /// A public IPv4 address by way of NAT64 and 6to4. Ports: numbers.
        Nat64 = "nat64",
        /// Where clouds serve instance metadata. Ports: numbers.
        Metadata = "metadata",
        /// The API of what makes containers, at each address that the stand-in host has. Ports: numbers.
        ControlPlane = "control-plane",
        /// Members of multicast groups, and who takes broadcasts, on the wires of host and neighbour. Ports: `mdns` (5353),
        /// `llmnr` (5355), `ssdp` (1900), `broadcast` (the limited one, 9), `directed-broadcast` (that of the neighbour's
        /// network, 9).
        Segment = "segment",
        /// Resolvers on the internet, the lab's own canary resolver first: it sees every look-up that anybody hands on.
        /// Spelled `resolv.conf`, whomever the bottle is configured to ask. Ports: `dns` (53), `dot` (853), `doh` (443).
        Resolver = "resolver",
        /// Unix sockets of the stand-in host. Ports: `abstract`, `path` (any of those in its file system).
        HostSockets = "host-sockets",
        /// Unix sockets of the machine that the launcher runs on. Ports: `abstract`.
        RealSockets = "real-sockets",
        /// The vsock loopback of the machine that the launcher runs on. Ports: `random`.
        RealVsock = "real-vsock",
        /// Whatever the bundle's real gateway would get to, spelled as a client spells it to a proxy. Ports: numbers.
        Proxied = "proxied",
    }
}

impl Site {
    /// The names of its ports; none where they are numbers.
    pub const fn port_names(self) -> &'static [&'static str] {
        match self {
            Self::Bundle => &["gateway", "egress", "egress-inside", "icmp", "experimental", "arp"],
            Self::HostLoopback | Self::RealLoopback | Self::HostGateway => &["discard", "random"],
            Self::Segment => &["mdns", "llmnr", "ssdp", "broadcast", "directed-broadcast"],
            Self::Resolver => &["dns", "dot", "doh"],
            Self::HostSockets => &["abstract", "path"],
            Self::RealSockets => &["abstract"],
            Self::RealVsock => &["random"],
            Self::PublishedPort
            | Self::Neighbour
            | Self::Internet
            | Self::InternetV6
            | Self::PrivateRanges
            | Self::Nat64
            | Self::Metadata
            | Self::ControlPlane
            | Self::Proxied => &[],
        }
    }

    /// Whether a port is a number, from 1 to 65535: the site has a witness on whichever is asked for.
    pub const fn takes_numbers(self) -> bool {
        self.port_names().is_empty()
    }

    /// Whether what is sent to somebody else may arrive there in the end, handed on by whoever got it.
    pub const fn answers_for_others(self) -> bool {
        matches!(self, Self::Resolver | Self::Proxied)
    }
}
