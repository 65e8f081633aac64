//! What a person writes in `probes/*.toml`, parsed and checked.
//!
//! `docs/probes.md` explains it to those who write one; [`super::parse`] reads it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use claude_bottle_protocol::prober::How;

use crate::written::{Word, words};

/// One property of a bottle, declared in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The file's stem: lower-case words joined by `-`.
    pub name: String,
    /// Where it was found; none for those built in.
    pub file: Option<PathBuf>,
    /// One line.
    pub title: String,
    /// Why the property matters.
    pub why: String,
    /// How bad a leak would be.
    pub severity: Severity,
    /// For selection: `slow`, `tcp`, `bundle`, …
    pub tags: Vec<String>,
    /// CVEs, RFCs, man pages, issues: URLs or short citations.
    pub references: Vec<String>,
    /// Breaches under which it must report a leak (or, for what must be reached, that it is not).
    pub proven_by: Vec<String>,
    /// Requirements besides those of the backend, such as `vsock-loopback`.
    pub needs: Vec<String>,
    /// What is different on a backend, by the backend's name.
    pub on: BTreeMap<String, On>,
    /// What is tried; never empty.
    pub attempts: Vec<AttemptDefinition>,
}

/// One try, after the lists of its definition have been multiplied out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptDefinition {
    /// By which means.
    pub method: Method,
    /// Where to; none for methods that go nowhere (`exec`).
    pub to: Option<To>,
    /// What is asked there; only with [`Method::Http`].
    pub request: Option<HttpRequest>,
    /// What must come of it.
    pub expect: Expect,
    /// How it must fail; empty: in any way.
    pub how: Vec<How>,
    /// The backends on which it is made; empty: on all of them.
    pub only_on: Vec<String>,
}

/// What an HTTP client asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpRequest {
    /// Method and path, such as `PUT /latest/api/token`.
    pub line: String,
    /// Headers, such as `Metadata: true`.
    pub headers: Vec<String>,
}

/// What is asked where nothing is written.
impl Default for HttpRequest {
    fn default() -> Self {
        Self { line: "GET /".to_owned(), headers: Vec::new() }
    }
}

/// Where an attempt goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct To {
    /// The site, such as `bundle` or `host-loopback`.
    pub site: Site,
    /// A port's name at that site (`egress`, `gateway`, `discard`, `random`, or a decimal number as text).
    pub port: String,
    /// The address or name as the client writes it; none: each address that the site has.
    pub spelled: Option<String>,
}

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
    /// The names of its ports.
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

    /// Whether a port may also be a number, from 1 to 65535: the site has a witness on whichever is asked for.
    pub const fn takes_numbers(self) -> bool {
        match self {
            Self::Bundle
            | Self::HostLoopback
            | Self::RealLoopback
            | Self::HostGateway
            | Self::Segment
            | Self::Resolver
            | Self::HostSockets
            | Self::RealSockets
            | Self::RealVsock => false,
            Self::PublishedPort
            | Self::Neighbour
            | Self::Internet
            | Self::InternetV6
            | Self::PrivateRanges
            | Self::Nat64
            | Self::Metadata
            | Self::ControlPlane
            | Self::Proxied => true,
        }
    }

    /// Whether what is sent to somebody else may arrive there in the end, handed on by whoever got it.
    pub const fn answers_for_others(self) -> bool {
        matches!(self, Self::Resolver | Self::Proxied)
    }
}

words! {
    #[what("expectation")]
    /// What must come of an attempt.
    pub enum Expect {
        /// Nothing arrives.
        Contained = "contained",
        /// It arrives and is answered.
        Reached = "reached",
        /// A known leak of somebody else's product: passes, shows amber, and fails the day it is gone.
        Leaks = "leaks",
    }
}

words! {
    #[what("severity")]
    /// How bad a leak would be.
    pub enum Severity {
        /// Worth knowing.
        Low = "low",
        /// A wall is thinner than planned.
        Medium = "medium",
        /// Something outside is reachable.
        High = "high",
        /// The agent reaches the host, the internet or credentials.
        Critical = "critical",
    }
}

words! {
    #[what("backend")]
    /// What makes bottles, as definitions name it.
    pub enum BackendName {
        /// Linux namespaces, embedded.
        Namespace = "namespace",
        /// Docker containers.
        Docker = "docker",
        /// Micro virtual machines made by smolvm.
        Smolmachines = "smolmachines",
        /// Any command that runs a program inside a sandbox (`--in`).
        External = "external",
    }
}

/// The words that `how` may demand: those that tell how something was kept in. `answered`, `connected` and `sent`
/// do not; neither do `fused` and `failed`, after which nothing has been tried.
impl Word for How {
    const WHAT: &'static str = "way to fail";
    const WORDS: &'static [Self] = &[
        Self::Refused,
        Self::Unreachable,
        Self::Prohibited,
        Self::TimedOut,
        Self::SocketDenied,
        Self::NotResolved,
        Self::DeniedByProxy,
    ];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// What is different on one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    /// What must come of every attempt there instead.
    pub expect: Option<Expect>,
    /// Not run there at all.
    pub skip: bool,
    /// Why it is different.
    pub because: String,
    /// Where that is documented; required for [`Expect::Leaks`].
    pub reference: Option<String>,
}

/// Whether and how a probe runs on one backend, after its `[on.…]` table and every `only-on`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunsOn<'a> {
    /// Not at all.
    Skipped {
        /// Why, for the report.
        because: Cow<'a, str>,
    },
    /// It runs.
    Runs {
        /// Its attempts there, in the order of the definition, each with what is expected of it *there*. Never empty.
        attempts: Vec<AttemptDefinition>,
        /// Where the leak is documented that at least one of them expects.
        known_leak: Option<&'a str>,
        /// Why it is different there, if it is.
        because: Option<&'a str>,
    },
}

impl Probe {
    /// Whether and how it runs on `backend`, such as `docker`.
    pub fn runs_on(&self, backend: &str) -> RunsOn<'_> {
        let on = self.on.get(backend);
        if let Some(on) = on.filter(|on| on.skip) {
            return RunsOn::Skipped { because: on.because.as_str().into() };
        }
        let made = self.attempts.iter().filter(|attempt| attempt.is_made_on(backend));
        let mut attempts: Vec<AttemptDefinition> = made.cloned().collect();
        if attempts.is_empty() {
            let because = format!("none of its attempts is made on {backend} (only-on)");
            return RunsOn::Skipped { because: because.into() };
        }
        if let Some(expect) = on.and_then(|on| on.expect) {
            for attempt in &mut attempts {
                attempt.expect = expect;
                // What leaks or is reached does not fail in any way.
                if expect != Expect::Contained {
                    attempt.how.clear();
                }
            }
        }
        let reference = on.and_then(|on| on.reference.as_ref()).or(self.references.first());
        let leaks = attempts.iter().any(|attempt| attempt.expect == Expect::Leaks);
        RunsOn::Runs {
            attempts,
            known_leak: reference.filter(|_| leaks).map(String::as_str),
            because: on.map(|on| on.because.as_str()),
        }
    }
}

impl AttemptDefinition {
    /// What makes it the same as another: the means, the place, and what is asked there.
    pub(crate) fn destination(&self) -> (Method, Option<&To>, Option<&HttpRequest>) {
        (self.method, self.to.as_ref(), self.request.as_ref())
    }

    /// Whether it is made on `backend`.
    pub(crate) fn is_made_on(&self, backend: &str) -> bool {
        self.only_on.is_empty() || self.only_on.iter().any(|only| only == backend)
    }

    /// Whether there is a backend on which both attempts are made.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.only_on, &other.only_on);
        ours.is_empty() || theirs.is_empty() || ours.iter().any(|backend| theirs.contains(backend))
    }
}

/// As reports show it, such as `tcp to host-loopback:discard as 127.0.0.1`.
impl fmt::Display for AttemptDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Some(to) => write!(f, "{} to {to}", self.method),
            None => write!(f, "{}", self.method),
        }
    }
}

/// As reports show it, such as `host-loopback:discard as 127.0.0.1`.
impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.site, self.port)?;
        match &self.spelled {
            Some(spelled) => write!(f, " as {spelled}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(spelled: Option<&str>, only_on: &[&str]) -> AttemptDefinition {
        AttemptDefinition {
            method: Method::Tcp,
            to: Some(To {
                site: Site::HostLoopback,
                port: "discard".to_owned(),
                spelled: spelled.map(str::to_owned),
            }),
            request: None,
            expect: Expect::Contained,
            how: vec![How::Refused],
            only_on: only_on.iter().map(|&backend| backend.to_owned()).collect(),
        }
    }

    fn probe(on: On, attempts: Vec<AttemptDefinition>) -> Probe {
        Probe {
            name: "x".to_owned(),
            file: None,
            title: "T".to_owned(),
            why: "W".to_owned(),
            severity: Severity::High,
            tags: Vec::new(),
            references: vec!["CVE-1".to_owned()],
            proven_by: vec!["b".to_owned()],
            needs: Vec::new(),
            on: BTreeMap::from([("docker".to_owned(), on)]),
            attempts,
        }
    }

    fn on() -> On {
        On { expect: None, skip: false, because: "B".to_owned(), reference: None }
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for &method in Method::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
            assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
            assert!(!method.may_expect().is_empty());
        }
        for &site in Site::ALL {
            assert_eq!(site.as_str().parse(), Ok(site));
            assert!(!site.port_names().is_empty() || site.takes_numbers(), "{site} has no port");
        }
        let error = "bundel".parse::<Site>().unwrap_err();
        assert_eq!(error.to_string(), "unknown site `bundel`, did you mean `bundle`?");
    }

    #[test]
    fn attempts_say_where_they_go() {
        let spelled = attempt(Some("127.0.0.1"), &[]).to_string();
        assert_eq!(spelled, "tcp to host-loopback:discard as 127.0.0.1");
        assert_eq!(attempt(None, &[]).to_string(), "tcp to host-loopback:discard");
        let exec = AttemptDefinition { method: Method::Exec, to: None, ..attempt(None, &[]) };
        assert_eq!(exec.to_string(), "exec");
    }

    #[test]
    fn where_nothing_is_different_the_probe_runs_as_written() {
        let probe = probe(on(), vec![attempt(None, &[])]);
        let RunsOn::Runs { attempts, known_leak, because } = probe.runs_on("namespace") else {
            panic!("it runs there");
        };
        assert_eq!((attempts, known_leak, because), (probe.attempts.clone(), None, None));
    }

    #[test]
    fn a_known_leak_is_expected_of_every_attempt_and_has_its_reference() {
        let leaks = On { expect: Some(Expect::Leaks), ..on() };
        let own = On { reference: Some("https://example.org/1".to_owned()), ..leaks.clone() };
        for (on, reference) in [(leaks, "CVE-1"), (own, "https://example.org/1")] {
            let probe = probe(on, vec![attempt(None, &[]), attempt(Some("::1"), &[])]);
            let RunsOn::Runs { attempts, known_leak, because } = probe.runs_on("docker") else {
                panic!("it runs there");
            };
            assert_eq!((known_leak, because), (Some(reference), Some("B")));
            assert!(attempts.iter().all(|a| a.expect == Expect::Leaks && a.how.is_empty()));
        }
    }

    #[test]
    fn a_probe_is_skipped_where_it_says_so_and_where_no_attempt_is_left() {
        let skips = probe(On { skip: true, ..on() }, vec![attempt(None, &[])]);
        assert_eq!(skips.runs_on("docker"), RunsOn::Skipped { because: "B".into() });

        let elsewhere = probe(on(), vec![attempt(None, &["namespace"])]);
        let because = "none of its attempts is made on docker (only-on)";
        assert_eq!(elsewhere.runs_on("docker"), RunsOn::Skipped { because: because.into() });
        assert!(matches!(elsewhere.runs_on("namespace"), RunsOn::Runs { .. }));
    }
}
