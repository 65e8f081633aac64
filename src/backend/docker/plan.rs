//! The plan of a bottle: a spec resolved against an engine. Pure data; every request that a launch sends is in it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::Ipv4Addr;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig,
    Ipam, IpamConfig, Mount as BindMount, MountType, NetworkCreateRequest, NetworkingConfig,
    RestartPolicy, RestartPolicyNameEnum, VolumeCreateRequest,
};
use claude_bottle_protocol::daemons::{self, Table};
use ipnet::Ipv4Net;
use serde::Serialize;

use super::error::DockerError;
use super::spec::{Joined, Mount, Spec};
use super::way_out::{self, WayOut};
use crate::bundle::gateway;

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
/// The folder that is a volume in an agent of another image.
const FOLDER: &str = "/bottle";

/// What must be known of an engine to plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The major version of the engine.
    pub major: u32,
    /// The runtimes that it has.
    pub runtimes: Vec<String>,
    /// Whether its kernel has IPv6 at all.
    pub ipv6: bool,
    /// Whether the launcher can enter the net namespaces of its containers.
    pub entered: bool,
    /// Subnets that are in use: of other networks, and the host's routes.
    pub taken: Vec<Ipv4Net>,
}

/// One step of a launch. Those of one stage are made side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The toolbox's image is there.
    Image,
    /// The bottle's network.
    Network,
    /// The network that leads out, for the bundle alone.
    WayOut,
    /// The volume of the agent's home.
    Home,
    /// The volume that the toolbox comes in on.
    Toolbox,
    /// The bundle's container.
    Bundle,
    /// The agent's container.
    Agent,
    /// The container that pins the agent's routes.
    Pinner,
    /// The bundle runs.
    BundleRuns,
    /// The agent runs.
    AgentRuns,
    /// Routes and packet filter are in place, and the pinner is gone, if there was one.
    Pinned,
    /// The bundle's gateway listens.
    GatewayListens,
    /// The agent is on a second network.
    SecondNetwork,
    /// The session has greeted.
    Greeted,
}

/// What has been done, for a person.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "the toolbox's image is there",
            Self::Network => "the network is made",
            Self::WayOut => "the bundle's way out is made",
            Self::Home => "the agent's home is made",
            Self::Toolbox => "the toolbox's volume is made",
            Self::Bundle => "the bundle is made",
            Self::Agent => "the agent is made",
            Self::Pinner => "the container that pins is made",
            Self::BundleRuns => "the bundle runs",
            Self::AgentRuns => "the agent runs",
            Self::Pinned => "routes and packet filter are pinned",
            Self::GatewayListens => "the gateway listens",
            Self::SecondNetwork => "the agent is on a second network",
            Self::Greeted => "the agent answers",
        })
    }
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
        let way_out = spec.bundle.gateway.as_ref().map(|_| way_out()).transpose()?;
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
            volumes: make.volumes(),
            bundle: make.bundle(),
            agent: make.agent(),
            pinner: (spec.holes.pinned() || spec.image.is_some()).then(|| make.pinner()),
            pinned: spec.holes.pinned(),
            second_network: spec.holes.second_network.clone(),
            starved: spec.holes.starved,
            verified: spec.holes.verified(),
        })
    }

    /// Every step, in order.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        self.stages.iter().flatten().copied()
    }

    /// A seat on the bottle's network, beside agent and bundle.
    pub(super) fn seat_beside(&self) -> Option<NetworkingConfig> {
        let address = Ipv4Addr::from(u32::from(self.agent_address) + 1).to_string();
        let mut seat = self.bundle.networking_config.clone()?;
        for settings in seat.endpoints_config.iter_mut().flat_map(HashMap::values_mut) {
            settings.aliases = None;
            settings.ipam_config = Some(EndpointIpamConfig {
                ipv4_address: Some(address.clone()),
                ..EndpointIpamConfig::default()
            });
        }
        Some(seat)
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
        Table::built_in().select(&spec.bundle.daemons.join(",")).map_err(DockerError::Daemons)?;
    }
    match &spec.runtime {
        Some(wanted) if !facts.runtimes.contains(wanted) => {
            Err(DockerError::Runtime { wanted: wanted.clone(), known: facts.runtimes.join(", ") })
        }
        _ => Ok(()),
    }
}

/// The address with this number in a subnet.
pub(super) fn host_of(subnet: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + number)
}

/// The first /28 of `pool` that overlaps with none of `taken`.
pub(super) fn free_subnet(pool: Ipv4Net, taken: &[Ipv4Net], first: usize) -> Option<Ipv4Net> {
    let all: Vec<_> = pool.subnets(28).ok()?.collect();
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    let begin = first % all.len();
    let mut turn = all[begin..].iter().chain(&all[..begin]);
    // A default route holds every address, and is none of a network's own.
    let free = |subnet: &&Ipv4Net| {
        !taken.iter().any(|taken| taken.prefix_len() > 0 && overlaps(subnet, taken))
    };
    turn.find(free).copied()
}

fn stages(spec: &Spec, facts: &Facts) -> Vec<Vec<Step>> {
    let mut first = vec![Step::Image, Step::Network];
    if spec.bundle.gateway.is_some() {
        first.push(Step::WayOut);
    }
    first.push(Step::Home);
    if spec.image.is_some() {
        first.push(Step::Toolbox);
    }
    let mut stages = vec![first, vec![Step::Bundle, Step::Agent]];
    if (spec.holes.pinned() && !facts.entered) || spec.image.is_some() {
        stages.push(vec![Step::Pinner]);
    }
    stages.push(vec![Step::BundleRuns, Step::AgentRuns]);
    if spec.holes.pinned() {
        stages.push(vec![Step::Pinned]);
    }
    if spec.bundle.gateway.is_some() {
        stages.push(vec![Step::GatewayListens]);
    }
    if spec.holes.second_network.is_some() {
        stages.push(vec![Step::SecondNetwork]);
    }
    stages.push(vec![Step::Greeted]);
    stages
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

impl Make<'_> {
    fn network(&self) -> NetworkCreateRequest {
        let holes = &self.spec.holes;
        let mut options = HashMap::new();
        let closed = holes.pinned() && !holes.open_network && holes.ipv6.is_none();
        if self.facts.major >= 28 && closed && !self.spec.host_reaches {
            // Without an address of the host on the bridge; Engine 28 and newer.
            for family in ["ipv4", "ipv6"] {
                let option = format!("com.docker.network.bridge.gateway_mode_{family}");
                options.insert(option, "isolated".to_owned());
            }
        }
        let config = IpamConfig {
            subnet: Some(self.subnet.to_string()),
            gateway: Some(self.at.gateway.to_string()),
            ..IpamConfig::default()
        };
        let v6 = holes
            .ipv6
            .map(|subnet| IpamConfig { subnet: Some(subnet.to_string()), ..IpamConfig::default() });
        let configs = [config].into_iter().chain(v6).collect();
        NetworkCreateRequest {
            name: self.spec.name.clone(),
            driver: Some("bridge".to_owned()),
            internal: Some(!holes.open_network),
            enable_ipv6: Some(self.spec.holes.ipv6.is_some()),
            ipam: Some(Ipam { config: Some(configs), ..Ipam::default() }),
            options: (!options.is_empty()).then_some(options),
            labels: Some(self.labels.clone()),
            ..NetworkCreateRequest::default()
        }
    }

    fn volume(&self, role: &str) -> VolumeCreateRequest {
        VolumeCreateRequest {
            name: Some(format!("{}-{role}", self.spec.name)),
            labels: Some(self.labels.clone()),
            ..VolumeCreateRequest::default()
        }
    }

    fn volumes(&self) -> BTreeMap<Step, VolumeCreateRequest> {
        let mut volumes = BTreeMap::from([(Step::Home, self.volume("home"))]);
        if self.spec.image.is_some() {
            volumes.insert(Step::Toolbox, self.volume("toolbox"));
        }
        volumes
    }

    /// On the bottle's network, at this address.
    fn seat(&self, address: Ipv4Addr, aliases: &[&str]) -> NetworkingConfig {
        let settings = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(address.to_string()),
                ..EndpointIpamConfig::default()
            }),
            aliases: Some(aliases.iter().map(|&alias| alias.to_owned()).collect()),
            ..EndpointSettings::default()
        };
        NetworkingConfig {
            endpoints_config: Some(HashMap::from([(self.spec.name.clone(), settings)])),
        }
    }

    fn sysctls(&self) -> HashMap<String, String> {
        // Docker lets every group ping, and so makes ICMP sockets for everybody.
        let mut sysctls = HashMap::new();
        if !self.spec.holes.ping {
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), "1 0".to_owned());
        }
        if self.facts.ipv6 && self.spec.holes.ipv6.is_none() {
            sysctls.insert("net.ipv6.conf.all.disable_ipv6".to_owned(), "1".to_owned());
        }
        sysctls
    }

    fn bundle(&self) -> ContainerCreateBody {
        let wanted = &self.spec.bundle;
        let has_way_out = wanted.gateway.is_some();
        let own = has_way_out.then(|| way_out::DAEMON.to_owned());
        let daemons: Vec<_> = own.into_iter().chain(wanted.daemons.iter().cloned()).collect();
        let mut env = way_out::env(self.spec, self.at.bundle);
        env.insert(daemons::SELECTION.to_owned(), daemons.join(","));
        env.extend(wanted.env.clone());
        ContainerCreateBody {
            image: Some(wanted.image.clone().unwrap_or_else(|| self.toolbox.to_owned())),
            hostname: Some("bundle".to_owned()),
            entrypoint: Some(vec![IN_IMAGE.to_owned()]),
            cmd: Some(vec!["init".to_owned()]),
            env: Some(env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(self.labels.clone()),
            host_config: Some(HostConfig {
                network_mode: Some(self.spec.name.clone()),
                // Without a way out it needs no other name, and must not have queries forwarded. With one all is as the host
                // has it: where anything is said here, the engine takes a resolver on the host's loopback for one on the
                // container's.
                dns: (!has_way_out).then(|| vec![self.at.bundle.to_string()]),
                dns_search: (!has_way_out).then(|| vec![".".to_owned()]),
                sysctls: has_way_out.then(way_out::sysctls),
                binds: (!wanted.mounts.is_empty())
                    .then(|| wanted.mounts.iter().map(bind).collect()),
                tmpfs: Some(HashMap::from([(
                    "/run/bottle".to_owned(),
                    "mode=1777,size=1m".to_owned(),
                )])),
                pids_limit: Some(self.spec.limits.pids),
                log_config: Some(log("json-file", &[("max-size", "1m"), ("max-file", "2")])),
                ..walls()
            }),
            networking_config: Some(self.seat(self.at.bundle, ALIASES)),
            ..ContainerCreateBody::default()
        }
    }

    fn agent(&self) -> ContainerCreateBody {
        let Self { spec, at, .. } = self;
        let holes = &spec.holes;
        let has_way_out = spec.bundle.gateway.is_some();
        let mut env =
            if has_way_out { gateway::variables(at.bundle.into()) } else { BTreeMap::new() };
        env.extend(spec.env.clone());
        let own = holes.joined == Joined::Own;
        let mut host = HostConfig {
            network_mode: Some(match &holes.joined {
                Joined::Own => spec.name.clone(),
                Joined::Host => "host".to_owned(),
                Joined::Bundle => format!("container:{}-bundle", spec.name),
                Joined::Container(id) => format!("container:{id}"),
            }),
            runtime: spec.runtime.clone(),
            memory: Some(spec.limits.memory),
            memory_swap: Some(spec.limits.memory),
            pids_limit: Some(spec.limits.pids),
            nano_cpus: (spec.limits.cpus > 0).then(|| spec.limits.cpus * 1_000_000_000),
            pid_mode: holes.host_processes.then(|| "host".to_owned()),
            cap_add: (!holes.cap_add.is_empty()).then(|| holes.cap_add.clone()),
            binds: Some(self.binds()),
            mounts: self.mounts(),
            tmpfs: Some(HashMap::from([("/tmp".to_owned(), "exec,mode=1777".to_owned())])),
            // What the session says is its own affair, and may be long.
            log_config: Some(log("none", &[])),
            ..walls()
        };
        if holes.unconfined {
            let options = host.security_opt.get_or_insert_default();
            options.extend(["seccomp=unconfined", "apparmor=unconfined"].map(str::to_owned));
        }
        if own {
            host.sysctls = Some(self.sysctls());
            if !holes.unpinned_resolver {
                host.dns = Some(vec![at.bundle.to_string()]);
                host.dns_search = Some(vec![".".to_owned()]);
            }
        }
        if own || holes.joined == Joined::Host {
            let hosts = holes.extra_hosts.iter().map(|(name, at)| format!("{name}:{at}"));
            host.extra_hosts = (!holes.extra_hosts.is_empty()).then(|| hosts.collect());
        }
        ContainerCreateBody {
            image: Some(spec.image.clone().unwrap_or_else(|| self.toolbox.to_owned())),
            hostname: own.then(|| spec.name.clone()),
            user: match (holes.root, &spec.image) {
                (true, _) => Some("0:0".to_owned()),
                // Whomever the image names: in every bottle it is the same one.
                (false, Some(_)) => Some(format!("{AGENT}:{AGENT}")),
                (false, None) => None,
            },
            entrypoint: Some(vec![IN_IMAGE.to_owned()]),
            cmd: Some(vec!["session".to_owned()]),
            env: Some(env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(self.labels.clone()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            // The session ends with its launcher, however that ends.
            stdin_once: Some(true),
            host_config: Some(host),
            networking_config: own.then(|| self.seat(at.agent, &["agent"])),
            ..ContainerCreateBody::default()
        }
    }

    fn binds(&self) -> Vec<String> {
        let mut binds = vec![format!("{}-home:{HOME}", self.spec.name)];
        if self.spec.image.is_some() {
            // Nothing of the agent's image may get in there.
            binds.push(format!("{}-toolbox:{FOLDER}:ro,nocopy", self.spec.name));
        }
        binds.extend(self.spec.holes.mounts.iter().map(bind));
        binds
    }

    /// What the person wants shown. Not as text, in which a colon means something, and nothing is made where nothing is.
    fn mounts(&self) -> Option<Vec<BindMount>> {
        let mount = |Mount { source, target, writable }: &Mount| BindMount {
            typ: Some(MountType::BIND),
            source: Some(source.clone()),
            target: Some(target.clone()),
            read_only: Some(!writable),
            ..BindMount::default()
        };
        let wanted = &self.spec.mounts;
        (!wanted.is_empty()).then(|| wanted.iter().map(mount).collect())
    }

    /// Pins routes, and installs the packet filter.
    fn pinner(&self) -> ContainerCreateBody {
        let holes = &self.spec.holes;
        // Of the 16 addresses the last one that is free; nobody has it.
        let nobody = Ipv4Addr::from(u32::from(self.subnet.broadcast()) - 1);
        let bundle = if holes.no_bundle_route { nobody } else { self.at.bundle };
        let addresses = [&[self.at.agent, bundle], &holes.also_reached[..]].concat();
        let mut arguments = vec!["pin".to_owned()];
        if !holes.filtered() {
            arguments.push("--routes-only".to_owned());
        }
        arguments.extend(addresses.iter().map(ToString::to_string));
        ContainerCreateBody {
            image: Some(self.toolbox.to_owned()),
            // To have the capability, and not only be allowed to.
            user: Some("0:0".to_owned()),
            entrypoint: Some(vec![IN_IMAGE.to_owned()]),
            cmd: Some(arguments),
            labels: Some(self.labels.clone()),
            host_config: Some(HostConfig {
                cap_add: Some(vec!["NET_ADMIN".to_owned()]),
                binds: self.spec.image.as_ref().map(|_| {
                    // That a volume is empty lets the engine fill it from the image; that of the home still is where the
                    // agent's image has nothing there, and gets its owner.
                    [("toolbox", FOLDER), ("home", HOME)]
                        .map(|(role, at)| format!("{}-{role}:{at}", self.spec.name))
                        .into()
                }),
                log_config: Some(log("json-file", &[("max-size", "16k")])),
                ..walls()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

/// What all containers have in common.
pub(super) fn walls() -> HostConfig {
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(true),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        ..HostConfig::default()
    }
}

/// How a container's output is kept.
pub(super) fn log(driver: &str, options: &[(&str, &str)]) -> HostConfigLogConfig {
    let options = options.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(options.collect()) }
}

fn bind(Mount { source, target, writable }: &Mount) -> String {
    format!("{source}:{target}:{}", if *writable { "rw" } else { "ro" })
}
