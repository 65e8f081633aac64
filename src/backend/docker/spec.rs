//! What a person or a test wants of a bottle, before anything is known of the engine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use claude_bottle_protocol::gateway::{Config, Weakness};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::bundle::selection::Server;

/// A bottle to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The bottle's name, and the beginning of the names of everything that is made for it: `a-z`, `0-9`, `-`.
    pub name: String,
    /// The agent's image, which must be there; none: the toolbox's own, as for probing.
    pub image: Option<String>,
    /// The OCI runtime, such as `runsc`; none: the engine's default.
    pub runtime: Option<String>,
    /// Variables of the agent.
    pub env: BTreeMap<String, String>,
    /// Files and folders of the engine's host, shown in the agent.
    pub mounts: Vec<Mount>,
    /// What runs beside the agent.
    pub bundle: BundleSpec,
    /// What the agent may use up.
    pub limits: Limits,
    /// From where the bottle's subnet, a /28, is taken.
    pub pool: Ipv4Net,
    /// Whether the engine's host must reach the bundle, for a bottle whose connections that one opens. Its network then has an
    /// address of the host's, which engines that can (28 and newer) are told to leave out otherwise.
    pub host_reaches: bool,
    /// From where that of the bundle's way out is taken, if it has one.
    pub pool_out: Ipv4Net,
    /// What is deliberately wrong; nothing in a sound bottle.
    pub holes: Holes,
}

/// What runs in a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleSpec {
    /// Its image, which must be there; none: the toolbox's own. Its init is this version's toolbox whatever it is.
    pub image: Option<String>,
    /// The daemons, by their names; none: it idles. The one that serves need not be named again.
    pub daemons: Vec<String>,
    /// Variables of its init and of the daemons; with `BOTTLE_DAEMON_TABLE` there may be daemons that only the init knows.
    pub env: BTreeMap<String, String>,
    /// Files and folders of the engine's host, shown in it.
    pub mounts: Vec<Mount>,
    /// Which daemon lets something out, and what; where it listens is the plan's to say. None: the bundle has no way out.
    pub serves: Option<Serves>,
    /// Whether it is shown, read-only, what the agent has of its own: its home, and what is mounted in it.
    pub looks_through: bool,
}

/// Who lets something out of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serves {
    /// The gateway, with this configuration.
    Gateway(Config),
    /// pipelock, with this one.
    Pipelock {
        /// The file.
        yaml: String,
    },
}

impl Serves {
    /// Which of the two it is.
    pub fn server(&self) -> Server {
        match self {
            Self::Gateway(_) => Server::Gateway,
            Self::Pipelock { .. } => Server::Pipelock,
        }
    }
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path on the engine's host.
    pub source: String,
    /// The path in the agent.
    pub target: String,
    /// Whether the agent may write there.
    pub writable: bool,
}

/// What an agent may use up; 0: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes, without swap.
    pub memory: i64,
    /// Processes and threads.
    pub pids: i64,
    /// Processors.
    pub cpus: i64,
}

/// Where the agent's network is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Joined {
    /// In a net namespace of its own, on the bottle's own network.
    #[default]
    Own,
    /// In the host's net namespace.
    Host,
    /// In that of its bundle.
    Bundle,
    /// In that of the container with this id.
    Container(String),
}

/// Deliberate holes in a bottle. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one hole each, told apart by their names")]
pub struct Holes {
    /// The agent's routes are left as the engine makes them.
    pub unpinned_routes: bool,
    /// The agent's routes are pinned, and no packet filter stands beside them.
    pub unfiltered: bool,
    /// The agent's one route leads to nobody.
    pub no_bundle_route: bool,
    /// Further addresses that routes and packet filter let the agent reach, as if they were on its wire.
    pub also_reached: Vec<Ipv4Addr>,
    /// The agent's resolver is the engine's, which forwards.
    pub unpinned_resolver: bool,
    /// The bottle's network is not an internal one.
    pub open_network: bool,
    /// Whose net namespace the agent is in.
    pub joined: Joined,
    /// A network, by its id, that the agent is connected to as well, after its routes were pinned.
    pub second_network: Option<String>,
    /// The bottle's network has this subnet of IPv6, and nobody minds.
    pub ipv6: Option<Ipv6Net>,
    /// Every group may make ping sockets, as the engine sets it.
    pub ping: bool,
    /// No filter on system calls is on.
    pub unconfined: bool,
    /// The agent is in the PID namespace of the engine's host.
    pub host_processes: bool,
    /// The agent may have one process, which is its session.
    pub starved: bool,
    /// The agent's commands run as root in their container.
    pub root: bool,
    /// Capabilities that the agent gets, such as `NET_RAW`.
    pub cap_add: Vec<String>,
    /// Further mounts.
    pub mounts: Vec<Mount>,
    /// Further names: name and address, or `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    /// The egress daemon is bound to every address of the bundle. For the lab, whose witness stands in for it.
    pub egress_on_all_interfaces: bool,
    /// Something that no plan has listens in the bundle. For the lab, too.
    pub stray_port: bool,
    /// What the bundle's gateway overlooks.
    pub gateway_weakness: Option<Weakness>,
}

impl BundleSpec {
    /// Every daemon, the one that serves first where it is not named.
    pub(super) fn all_daemons(&self) -> Vec<String> {
        let serves = self.serves.as_ref().map(|serves| serves.server().daemon());
        let unnamed = serves.filter(|name| !self.daemons.iter().any(|daemon| daemon == name));
        unnamed.map(str::to_owned).into_iter().chain(self.daemons.iter().cloned()).collect()
    }
}

impl Spec {
    /// Whether the toolbox comes in on a volume: where an image is not the toolbox's own.
    pub(super) fn has_toolbox_volume(&self) -> bool {
        self.image.is_some() || self.bundle.image.is_some()
    }

    /// A sound bottle of the toolbox's image.
    pub fn new(name: impl Into<String>) -> Self {
        let pool = "10.210.0.0/16".parse().expect("a network");
        Self {
            name: name.into(),
            image: None,
            runtime: None,
            env: BTreeMap::new(),
            mounts: Vec::new(),
            bundle: BundleSpec::default(),
            host_reaches: false,
            limits: Limits { memory: 2 << 30, pids: 1024, cpus: 0 },
            pool,
            pool_out: pool,
            holes: Holes::default(),
        }
    }
}

impl Holes {
    /// Whether the agent's routes are pinned, and must still be before each command. Never where the agent is in a net
    /// namespace of somebody else: that one's routes are none of ours.
    pub fn pinned(&self) -> bool {
        !self.unpinned_routes && self.joined == Joined::Own
    }

    /// Whether a packet filter stands beside the pinned routes. One would keep in what a second network or IPv6 lets out.
    pub fn filtered(&self) -> bool {
        self.pinned() && !self.unfiltered && self.second_network.is_none() && self.ipv6.is_none()
    }

    /// Whether the routes must be as they were pinned before each command.
    pub fn verified(&self) -> bool {
        self.pinned() && self.second_network.is_none()
    }
}
