//! The plan of a bottle: a spec resolved against an engine. Pure data; every request that a launch sends is in it.
//!
//! | file | what it plans |
//! |---|---|
//! | `step` | what is done, in which order |
//! | `subnet`, `network` | the bottle's network, and who sits where on it |
//! | `container` | what containers have in common |
//! | `bundle`, `agent`, `pinner` | each of them |

mod agent;
mod bundle;
pub(super) mod container;
mod network;
mod pinner;
mod step;
mod subnet;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use bollard::models::{ContainerCreateBody, NetworkCreateRequest, VolumeCreateRequest};
use claude_bottle_protocol::daemons::{self, Table};
use ipnet::Ipv4Net;
use serde::Serialize;

pub use self::step::Step;
use self::step::stages;
pub(super) use self::subnet::{free_subnet, host_of};
use super::error::DockerError;
use super::spec::{Serves, Spec};
use super::way_out::{self, WayOut};
use crate::bundle::selection::Server;

/// The labels of everything that is made for a bottle.
pub mod label {
    /// The bottle's name.
    pub const BOTTLE: &str = "claude-bottle.bottle";
    /// Who launched it; see [`super::super::owner::Owner`].
    pub const OWNER: &str = "claude-bottle.owner";
    /// The launcher's version.
    pub const VERSION: &str = "claude-bottle.version";
    /// On images: that this is the toolbox's.
    pub const TOOLBOX: &str = "claude-bottle.toolbox";
}

/// The names under which the bundle is known in a bottle.
pub const ALIASES: &[&str] = &["bundle", "pipelock", "egress", "gitleaks", "supervise", "gateway"];
/// The user and the group of the agent's commands, as in a bottle of the embedded backend.
pub(super) const AGENT: u64 = 1000;
/// The agent's writable folder, a volume.
pub const HOME: &str = "/home/agent";
/// Where the toolbox is in its own image.
pub const IN_IMAGE: &str = "/bottle/toolbox";
/// The folder that is a volume in an agent, or a bundle, of another image.
const FOLDER: &str = "/bottle";
/// Where a daemon that looks through what the agent has finds it.
pub(super) const LOOKED_THROUGH: &str = "/scanned";

/// What must be known of an engine to plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The major version of the engine.
    pub major: u32,
    /// The runtimes that it has; nothing where none is asked for.
    pub runtimes: Vec<String>,
    /// Whether its kernel has IPv6 at all.
    pub ipv6: bool,
    /// Whether the launcher can enter the net namespaces of its containers.
    pub entered: bool,
    /// Subnets that are in use: of other networks, and the host's routes.
    pub taken: Vec<Ipv4Net>,
}

/// Daemons that have to be up before a bottle is handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Awaited {
    /// Their names.
    pub daemons: Vec<String>,
    /// Which of them lets something out.
    pub server: Option<Server>,
}

/// A bottle's plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The bottle's name.
    pub name: String,
    /// The bottle's subnet.
    pub subnet: Ipv4Net,
    /// The bundle's pinned address.
    pub bundle_address: Ipv4Addr,
    /// The agent's.
    pub agent_address: Ipv4Addr,
    /// The bridge's own address, the engine's host.
    pub gateway: Ipv4Addr,
    /// The steps, in stages.
    pub stages: Vec<Vec<Step>>,
    /// The network.
    pub network: NetworkCreateRequest,
    /// The bundle's way out, if it has one.
    pub way_out: Option<Box<WayOut>>,
    /// The daemons that are waited for, if any are.
    pub awaited: Option<Awaited>,
    /// The volumes.
    pub volumes: BTreeMap<Step, VolumeCreateRequest>,
    /// The bundle.
    pub bundle: ContainerCreateBody,
    /// The agent.
    pub agent: ContainerCreateBody,
    /// Who pins the agent's routes; its net namespace is the agent's, whose id is not known yet. It is made where the launcher
    /// cannot enter that itself, and where a volume is to be filled from its image.
    pub pinner: Option<ContainerCreateBody>,
    /// Whether routes and packet filter are pinned.
    pub pinned: bool,
    /// A network that the agent is connected to at last: only in a bottle with that hole.
    pub second_network: Option<String>,
    /// Whether the agent is left no process for a command, once it has greeted: only in a bottle with that hole.
    pub starved: bool,
    /// Whether routes and packet filter are looked at before each command.
    pub verified: bool,
}

impl Plan {
    /// Plans a bottle. `toolbox` is the toolbox image's tag; `owner` goes into the labels; the search for a free subnet
    /// begins at the one with the number `first`, modulo how many there are.
    pub fn new(
        spec: &Spec,
        facts: &Facts,
        toolbox: &str,
        owner: &str,
        first: usize,
    ) -> Result<Self, DockerError> {
        check(spec, facts)?;
        let subnet = free_subnet(spec.pool, &facts.taken, first)
            .ok_or(DockerError::PoolExhausted { pool: spec.pool })?;
        let host = |number| host_of(subnet, number);
        let at = Addresses { gateway: host(1), bundle: host(2), agent: host(3) };
        let labels: HashMap<String, String> = [
            (label::BOTTLE, spec.name.as_str()),
            (label::OWNER, owner),
            (label::VERSION, env!("CARGO_PKG_VERSION")),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let way_out = || {
            let taken = [facts.taken.as_slice(), &[subnet]].concat();
            WayOut::plan(spec, &labels, &taken, first).map(Box::new)
        };
        let way_out = spec.bundle.serves.as_ref().map(|_| way_out()).transpose()?;
        let make = Make { spec, facts, toolbox, labels, at: &at, subnet };
        Ok(Self {
            name: spec.name.clone(),
            subnet,
            bundle_address: at.bundle,
            agent_address: at.agent,
            gateway: at.gateway,
            stages: stages(spec, facts),
            network: make.network(),
            way_out,
            awaited: awaited(spec),
            volumes: make.volumes(),
            bundle: make.bundle(),
            agent: make.agent(),
            pinner: (spec.holes.pinned() || spec.has_toolbox_volume()).then(|| make.pinner()),
            pinned: spec.holes.pinned(),
            second_network: spec.holes.second_network.clone(),
            starved: spec.holes.starved,
            verified: spec.holes.verified(),
        })
    }

    /// Gives a bundle that was planned without one a way out.
    pub(super) fn lead_out(&mut self, spec: &Spec, facts: &Facts) -> Result<(), DockerError> {
        let labels = self.network.labels.clone().unwrap_or_default();
        let taken = [facts.taken.as_slice(), &[self.subnet]].concat();
        self.way_out = Some(Box::new(WayOut::plan(spec, &labels, &taken, 0)?));
        let host = self.bundle.host_config.get_or_insert_default();
        (host.dns, host.dns_search, host.sysctls) = (None, None, Some(way_out::sysctls()));
        Ok(())
    }

    /// Every step, in order.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        self.stages.iter().flatten().copied()
    }

    /// The name of the container of this role.
    pub fn container(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }
}

/// What can be told to be wrong before anything is made.
pub(super) fn check(spec: &Spec, facts: &Facts) -> Result<(), DockerError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = &spec.name;
    if name.len() > 40
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.chars().all(plain)
    {
        return Err(DockerError::Name(name.chars().take(80).collect()));
    }
    way_out::check(spec)?;
    // With a table of its own only the init knows them all.
    if !spec.bundle.env.contains_key(daemons::TABLE) {
        let all = spec.bundle.all_daemons().join(",");
        Table::built_in().select(&all).map_err(DockerError::Daemons)?;
    }
    match &spec.runtime {
        Some(wanted) if !facts.runtimes.contains(wanted) => {
            Err(DockerError::Runtime { wanted: wanted.clone(), known: facts.runtimes.join(", ") })
        }
        _ => Ok(()),
    }
}

/// Those on which anything depends: what runs beside a bottle under test, besides its gateway, is a witness.
fn awaited(spec: &Spec) -> Option<Awaited> {
    let server = spec.bundle.serves.as_ref().map(Serves::server);
    let is_awaited = server.is_some() || spec.bundle.image.is_some();
    is_awaited.then(|| Awaited { daemons: spec.bundle.all_daemons(), server })
}

struct Addresses {
    gateway: Ipv4Addr,
    bundle: Ipv4Addr,
    agent: Ipv4Addr,
}

struct Make<'a> {
    spec: &'a Spec,
    facts: &'a Facts,
    toolbox: &'a str,
    labels: HashMap<String, String>,
    at: &'a Addresses,
    subnet: Ipv4Net,
}
