//! The means by which attempts are made.

use super::Expect;
use crate::written::words;

words! {
    #[what("method")]
    /// By which means an attempt is made.
    pub enum Method {
        /// Connect over TCP, send the nonce, wait for its echo.
        Tcp = "tcp",
        /// Send an HTTP request that carries the nonce, wait for a response with it.
        Http = "http",
        /// Send the nonce in a UDP datagram, wait for its echo.
        Udp = "udp",
        /// Look up a name that carries the nonce, over UDP.
        DnsUdp = "dns-udp",
        /// Look up a name that carries the nonce, over TCP.
        DnsTcp = "dns-tcp",
        /// Look up a name that carries the nonce twice, over UDP, and connect to the second answer.
        Rebind = "rebind",
        /// Connect to a Unix socket in the abstract namespace, send the nonce, wait for its echo.
        UnixAbstract = "unix-abstract",
        /// Connect to every Unix socket that is in sight, send the nonce, wait for its echo.
        UnixPath = "unix-path",
        /// Send the nonce from each TCP socket that was left open.
        InheritedTcp = "inherited-tcp",
        /// Send the nonce from each UDP socket that was left open.
        InheritedUdp = "inherited-udp",
        /// Send the nonce over each TCP connection that was left open.
        EstablishedTcp = "established-tcp",
        /// Connect over vsock, send the nonce, wait for its echo.
        Vsock = "vsock",
        /// Make sockets of families that ignore net namespaces; the outside looks whether they are there.
        ForeignSockets = "foreign-sockets",
        /// Connect over TCP with the nonce in the first packet (`MSG_FASTOPEN`).
        TcpFastOpen = "tcp-fast-open",
        /// Connect over multipath TCP, send the nonce, wait for its echo.
        Mptcp = "mptcp",
        /// Send the nonce in a datagram of a UDP socket that was never connected.
        UdpUnconnected = "udp-unconnected",
        /// Send the nonce to a multicast group, or as a broadcast, on every interface.
        Multicast = "multicast",
        /// Send the nonce in an ICMP echo of an unprivileged ping socket.
        PingSocket = "ping-socket",
        /// Send the nonce in an ICMP echo of a raw socket.
        RawIcmp = "raw-icmp",
        /// Send the nonce in a UDP datagram with headers made by hand, from a raw socket.
        RawUdp = "raw-udp",
        /// Broadcast the nonce in an Ethernet frame, from a packet socket.
        Frame = "frame",
        /// The same, from a packet socket that was made by `io_uring`.
        UringFrame = "io-uring-frame",
        /// The same, from a packet socket that was made by the 32-bit system call.
        Frame32 = "frame-32-bit",
        /// Broadcast an ARP reply that claims the target's address.
        ForgedArp = "forged-arp",
        /// Run a command in the bottle that prints nonces on both streams and exits with a chosen code.
        Exec = "exec",
        /// Add an address to the bottle's loopback; the outside looks whether it is there.
        AddAddress = "add-address",
        /// Add a route to the bottle's table; the outside looks whether it is there.
        AddRoute = "add-route",
        /// Make an interface in the bottle; the outside looks whether it is there.
        AddLink = "add-link",
        /// Make a table of the bottle's packet filter; the outside looks whether it is there.
        AddFirewallTable = "add-firewall-table",
        /// Connect to every TCP port of the bundle but the planned ones; the outside looks what listens there.
        SweepBundle = "sweep-bundle",
        /// Start a process in user and net namespaces of its own; the outside looks for it.
        Unshare = "unshare",
        /// Enter each other net namespace that can be seen, and connect over TCP from there.
        EnterNamespace = "enter-namespace",
        /// Take each UDP socket of other processes that can be seen, and send the nonce over it.
        StealSocket = "steal-socket",
        /// Listen in the bottle; the outside dials in over TCP and UDP.
        Inbound = "inbound",
        /// Listen in the bottle; the outside looks whether the host listens then.
        ListenOnHost = "listen-on-host",
        /// Ask the gateway for a tunnel, and go on in it as its port is used: TLS on 443, HTTP on 80, else the nonce.
        HttpConnect = "http-connect",
        /// Ask the gateway for a URL.
        HttpGet = "http-get",
        /// Ask the gateway for a tunnel to a name that it lets through, and begin TLS for another one in it.
        ForeignSni = "foreign-sni",
        /// Ask the gateway for a URL that it lets through, with another name as its `Host`.
        ForeignHost = "foreign-host",
        /// Ask the gateway for a URL that it lets through, with two lengths, and for another one in its body.
        SmuggledRequest = "smuggled-request",
    }
}

impl Method {
    /// Whether an attempt by this method goes to a site. If so its definition has a `to`, else it has none.
    pub const fn needs_to(self) -> bool {
        !matches!(
            self,
            Self::Exec
                | Self::AddAddress
                | Self::AddRoute
                | Self::AddLink
                | Self::AddFirewallTable
                | Self::SweepBundle
                | Self::ForeignSockets
                | Self::Unshare
                | Self::Inbound
                | Self::ListenOnHost
        )
    }

    /// Whether it asks the gateway: then it goes to the site `proxied`, and nothing else does.
    pub const fn asks_gateway(self) -> bool {
        matches!(
            self,
            Self::HttpConnect
                | Self::HttpGet
                | Self::ForeignSni
                | Self::ForeignHost
                | Self::SmuggledRequest
        )
    }

    /// What may be expected of this method. A command that does not run has shown nothing about the network, so
    /// `exec` can only be expected to be reached.
    pub const fn may_expect(self) -> &'static [Expect] {
        match self {
            Self::Tcp
            | Self::Http
            | Self::Udp
            | Self::TcpFastOpen
            | Self::Mptcp
            | Self::UdpUnconnected
            | Self::PingSocket
            | Self::HttpConnect
            | Self::HttpGet => Expect::ALL,
            Self::Exec => &[Expect::Reached],
            _ => &[Expect::Contained, Expect::Leaks],
        }
    }
}
