//! Deliberate misconfigurations, each with one hole that named probes must notice.

use std::fmt;

/// A deliberate misconfiguration of a bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Breach {
    /// The bottle's route to the bundle is missing.
    NoBundleRoute,
    /// The egress daemon listens on all of the bundle's addresses instead of its loopback.
    EgressOnAllInterfaces,
    /// The bottle shares the lab host's net namespace.
    SharedNetworkNamespace,
    /// The bottle stays in the net namespace that the launcher runs in.
    NoNetworkNamespace,
    /// No file in the bottle can be executed.
    NoexecRoot,
    /// The bottle has a second wire, to the host, and a default route over it.
    LinkToHost,
    /// The bottle's resolver hands what it is asked on to one in the world.
    ForwardingResolver,
    /// The socket of the host's Docker engine is mounted into the bottle.
    DockerSocketMounted,
    /// The socket of the person's ssh-agent is mounted into the bottle.
    SshAgentMounted,
    /// The socket of the person's D-Bus session is mounted into the bottle.
    DbusMounted,
    /// Commands in the bottle inherit sockets of the host.
    DescriptorLeftOpen,
    /// Commands keep the capability to configure the bottle's network.
    NetAdmin,
    /// Commands may make user namespaces.
    UserNamespaces,
    /// Commands see the host's processes, and may inspect them and enter their namespaces.
    HostProcesses,
    /// The bottle's commands may open ping sockets.
    PingGroupRange,
    /// The bottle's commands keep `CAP_NET_RAW`.
    NetRaw,
    /// They keep `CAP_NET_RAW`, and no filter on system calls is on.
    NetRawUnconfined,
    /// They keep `CAP_NET_RAW`, and the filter on system calls lets `io_uring` through.
    NetRawIoUring,
    /// The bottle has a default route by way of the bundle, which forwards, and everybody knows the way back.
    DefaultRouteViaBundle,
    /// The same, and the way back leads elsewhere.
    OneWay,
    /// The bottle has a second wire, to the host, that carries IPv6 alone.
    Ipv6On,
    /// The bottle has a second wire, to its neighbour.
    NeighbourOnSameSegment,
    /// Something else listens on the bundle's addresses.
    StrayBundlePort,
    /// The bottle has a way to what another container has published on the host.
    PublishedPort,
    /// The micro virtual machine has a network of its own without an allow-list.
    UnrestrictedNet,
    /// The machine has no network of its own, and no allow-list: its system calls are passed on to the host.
    PlainNet,
    /// The machine's allow-list has a whole private range on it.
    WideCidr,
    /// The machine's allow-list has its monitor's own gateway on it, which is the host's loopback.
    GatewayAllowed,
    /// Commands in the bottle inherit a connection that was opened before its walls were up.
    FlowBeforeFence,
    /// No filter on system calls is on.
    SeccompOff,
    /// The agent's routes are left as the engine makes them.
    UnpinnedRoutes,
    /// The agent's routes are pinned, and no packet filter stands beside them.
    UnpinnedFilter,
    /// The bottle's limit on processes leaves none for a command.
    NoProcessLeft,
    /// The agent has every capability, no filter on system calls, and no packet filter beside its routes.
    Privileged,
    /// Another bottle is on the same network, whose routes are left as the engine makes them.
    SharedNetwork,
    /// The agent's resolver is the engine's own, which hands on what it is asked.
    UnpinnedResolver,
    /// The bottle's network is an ordinary one, with routes as the engine makes them.
    OpenNetwork,
    /// The agent is on the host's network (`--network host`).
    HostNetwork,
    /// The agent was connected to the engine's default network after its routes had been pinned.
    SecondNetwork,
    /// The agent is in its bundle's net namespace (`--network container:…`).
    JoinedNamespace,
    /// The host has a name in the agent (`--add-host …:host-gateway`), and the routes that this takes.
    HostGatewayAlias,
    /// The gateway lets every host through.
    GatewayAllowAll,
    /// The gateway lets what its list names through at every port.
    GatewayAnyPort,
    /// The gateway takes a rule for the names below one for that name itself as well.
    GatewayApexMatchesAll,
    /// The gateway takes a rule for every name that ends as it does.
    GatewaySuffixMatches,
    /// The gateway does not look at what a tunnel begins with.
    GatewayNoSniCheck,
    /// The gateway does not compare Host with the destination.
    GatewayNoHostCheck,
    /// The gateway dials whatever address a name leads to.
    GatewayNoAddressCheck,
    /// The gateway resolves a name once to check it and once more to dial it.
    GatewayResolveTwice,
    /// The gateway sends on whatever follows a request.
    GatewayForwardRaw,
    /// The gateway lets nothing through.
    GatewayEmptyList,
}

/// What is to be known of a breach.
struct About {
    breach: Breach,
    name: &'static str,
    title: &'static str,
    /// Probes that flip beside those whose `proven-by` names the breach.
    knock_ons: &'static [&'static str],
}

const ABOUT: &[About] = &[
    About {
        breach: Breach::NoBundleRoute,
        name: "no-bundle-route",
        title: "the bottle has no route to its bundle",
        knock_ons: &[],
    },
    About {
        breach: Breach::EgressOnAllInterfaces,
        name: "egress-on-all-interfaces",
        title: "the egress daemon listens on every address of the bundle",
        knock_ons: &[],
    },
    About {
        breach: Breach::SharedNetworkNamespace,
        name: "shared-network-namespace",
        title: "the bottle shares the lab host's net namespace",
        knock_ons: &[],
    },
    About {
        breach: Breach::NoNetworkNamespace,
        name: "no-network-namespace",
        title: "the bottle has no net namespace of its own",
        knock_ons: &[],
    },
    About {
        breach: Breach::NoexecRoot,
        name: "noexec-root",
        title: "nothing in the bottle can be executed",
        knock_ons: &[],
    },
    About {
        breach: Breach::LinkToHost,
        name: "link-to-host",
        title: "the bottle has a second interface, on a bridge of the host",
        knock_ons: &[],
    },
    About {
        breach: Breach::ForwardingResolver,
        name: "forwarding-resolver",
        title: "the bottle's resolver hands queries on from the host's net namespace",
        knock_ons: &[],
    },
    About {
        breach: Breach::DockerSocketMounted,
        name: "docker-socket-mounted",
        title: "the Docker engine's socket is mounted into the bottle, read-only",
        knock_ons: &[],
    },
    About {
        breach: Breach::SshAgentMounted,
        name: "ssh-agent-mounted",
        title: "the ssh-agent's socket is mounted into the bottle",
        knock_ons: &[],
    },
    About {
        breach: Breach::DbusMounted,
        name: "dbus-mounted",
        title: "the socket of the D-Bus session is mounted into the bottle",
        knock_ons: &[],
    },
    About {
        breach: Breach::DescriptorLeftOpen,
        name: "descriptor-left-open",
        title: "commands in the bottle inherit sockets of the host",
        knock_ons: &[],
    },
    About {
        breach: Breach::NetAdmin,
        name: "net-admin",
        title: "commands in the bottle keep CAP_NET_ADMIN",
        knock_ons: &[],
    },
    About {
        breach: Breach::UserNamespaces,
        name: "user-namespaces",
        title: "commands in the bottle may make user namespaces",
        knock_ons: &[],
    },
    About {
        breach: Breach::HostProcesses,
        name: "host-processes",
        title: "the bottle shares the host's PID namespace, with CAP_SYS_ADMIN and CAP_SYS_PTRACE",
        knock_ons: &[],
    },
    About {
        breach: Breach::PingGroupRange,
        name: "ping-group-range",
        title: "net.ipv4.ping_group_range lets every group ping, as systemd and Docker set it",
        knock_ons: &[],
    },
    About {
        breach: Breach::NetRaw,
        name: "net-raw",
        title: "the bottle's commands keep CAP_NET_RAW, as Docker's do unless it is dropped",
        knock_ons: &[],
    },
    About {
        breach: Breach::NetRawUnconfined,
        name: "net-raw-unconfined",
        title: "the bottle's commands keep CAP_NET_RAW and run unconfined, as in a Kubernetes pod that asks for nothing",
        knock_ons: &["icmp-echo", "namespace-escape"],
    },
    About {
        breach: Breach::NetRawIoUring,
        name: "net-raw-io-uring",
        title: "the bottle's commands keep CAP_NET_RAW, and their filter on socket(2) knows nothing of io_uring",
        knock_ons: &["icmp-echo", "raw-and-packet-sockets"],
    },
    About {
        breach: Breach::DefaultRouteViaBundle,
        name: "default-route-via-bundle",
        title: "the bottle has a default route by way of the bundle, which forwards",
        knock_ons: &[],
    },
    About {
        breach: Breach::OneWay,
        name: "one-way",
        title: "the bundle forwards for the bottle, and all replies go astray",
        knock_ons: &[],
    },
    About {
        breach: Breach::Ipv6On,
        name: "ipv6-on",
        title: "the bottle is on a bridge of the host whose IPv6 was left on",
        knock_ons: &[],
    },
    About {
        breach: Breach::NeighbourOnSameSegment,
        name: "neighbour-on-same-segment",
        title: "another bottle is on the same segment",
        knock_ons: &[],
    },
    About {
        breach: Breach::StrayBundlePort,
        name: "stray-bundle-port",
        title: "a debugger's port was left open in the bundle",
        knock_ons: &[],
    },
    About {
        breach: Breach::PublishedPort,
        name: "published-port",
        title: "the bottle has a way to the port that another container has published on the host",
        knock_ons: &[],
    },
    About {
        breach: Breach::UnrestrictedNet,
        name: "unrestricted-net",
        title: "the machine has a network without an allow-list (`--net --net-backend virtio-net`)",
        knock_ons: &[],
    },
    About {
        breach: Breach::PlainNet,
        name: "plain-net",
        title: "the machine's system calls are passed on to the host, without an allow-list (`--net`)",
        knock_ons: &[],
    },
    About {
        breach: Breach::WideCidr,
        name: "wide-cidr",
        title: "the machine's allow-list has a whole private range on it",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayAllowed,
        name: "gateway-allowed",
        title: "the machine's allow-list has the monitor's gateway on it, which is the host's loopback",
        knock_ons: &[],
    },
    About {
        breach: Breach::FlowBeforeFence,
        name: "flow-before-fence",
        title: "commands in the bottle inherit a connection to the internet from before its walls were up",
        knock_ons: &[],
    },
    About {
        breach: Breach::SeccompOff,
        name: "seccomp-off",
        title: "the bottle has no filter on system calls",
        knock_ons: &[],
    },
    About {
        breach: Breach::UnpinnedRoutes,
        name: "unpinned-routes",
        title: "the agent's routes are left as the engine makes them",
        knock_ons: &[],
    },
    About {
        breach: Breach::UnpinnedFilter,
        name: "unpinned-filter",
        title: "the agent's routes are pinned, and no packet filter stands beside them",
        knock_ons: &[],
    },
    About {
        breach: Breach::NoProcessLeft,
        name: "no-process-left",
        title: "the bottle's limit on processes leaves none for a command",
        knock_ons: &[],
    },
    About {
        breach: Breach::Privileged,
        name: "privileged",
        title: "the agent runs as with --privileged, and no packet filter stands beside its routes",
        knock_ons: &[],
    },
    About {
        breach: Breach::SharedNetwork,
        name: "shared-network",
        title: "another bottle is on the same network, whose routes are left as the engine makes them",
        knock_ons: &[],
    },
    About {
        breach: Breach::UnpinnedResolver,
        name: "unpinned-resolver",
        title: "the agent's resolver is the engine's own, which hands queries on from the host",
        knock_ons: &[],
    },
    About {
        breach: Breach::OpenNetwork,
        name: "open-network",
        title: "the bottle's network is not an internal one",
        knock_ons: &[],
    },
    About {
        breach: Breach::HostNetwork,
        name: "host-network",
        title: "the agent is on the host's network",
        knock_ons: &[],
    },
    About {
        breach: Breach::SecondNetwork,
        name: "second-network",
        title: "the agent was connected to a second network after its routes had been pinned",
        knock_ons: &[],
    },
    About {
        breach: Breach::JoinedNamespace,
        name: "joined-namespace",
        title: "the agent is in its bundle's net namespace",
        knock_ons: &[],
    },
    About {
        breach: Breach::HostGatewayAlias,
        name: "host-gateway-alias",
        title: "the host has a name in the agent, which has the routes that this takes",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayAllowAll,
        name: "gateway-allow-all",
        title: "the gateway lets every host through",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayAnyPort,
        name: "gateway-any-port",
        title: "the gateway lets what its list names through at every port",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayApexMatchesAll,
        name: "gateway-apex-matches-all",
        title: "the gateway takes a rule for the names below one for that name itself as well",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewaySuffixMatches,
        name: "gateway-suffix-matches",
        title: "the gateway takes a rule for every name that ends as it does",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayNoSniCheck,
        name: "gateway-no-sni-check",
        title: "the gateway does not look at what a tunnel begins with",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayNoHostCheck,
        name: "gateway-no-host-check",
        title: "the gateway does not compare Host with the destination",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayNoAddressCheck,
        name: "gateway-no-address-check",
        title: "the gateway dials whatever address a name leads to",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayResolveTwice,
        name: "gateway-resolve-twice",
        title: "the gateway resolves a name once to check it and once more to dial it",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayForwardRaw,
        name: "gateway-forward-raw",
        title: "the gateway sends on whatever follows a request",
        knock_ons: &[],
    },
    About {
        breach: Breach::GatewayEmptyList,
        name: "gateway-empty-list",
        title: "the gateway's allow-list is empty",
        knock_ons: &[],
    },
];

impl Breach {
    /// Every breach's name.
    pub fn names() -> Vec<&'static str> {
        ABOUT.iter().map(|about| about.name).collect()
    }

    /// The breach with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        ABOUT.iter().find(|about| about.name == name).map(|about| about.breach)
    }

    /// Its name, as `proven-by` writes it.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// What is wrong with the bottle, as a clause.
    pub fn title(self) -> &'static str {
        self.about().title
    }

    /// Probes that it flips although they do not name it.
    pub fn knock_ons(self) -> &'static [&'static str] {
        self.about().knock_ons
    }

    fn about(self) -> &'static About {
        let about = ABOUT.iter().find(|about| about.breach == self);
        about.expect("every breach is in the table, as a test checks")
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
