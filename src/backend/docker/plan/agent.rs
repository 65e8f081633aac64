//! The agent's container, and its volumes.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerCreateBody, HostConfig, Mount as BindMount, VolumeCreateRequest};

use super::container::{bind, log, mount, walls};
use super::{AGENT, FOLDER, HOME, IN_IMAGE, Make, Step};
use crate::backend::docker::spec::Joined;
use crate::bundle::gateway;

impl Make<'_> {
    fn volume(&self, role: &str) -> VolumeCreateRequest {
        VolumeCreateRequest {
            name: Some(format!("{}-{role}", self.spec.name)),
            labels: Some(self.labels.clone()),
            ..VolumeCreateRequest::default()
        }
    }

    pub(super) fn volumes(&self) -> BTreeMap<Step, VolumeCreateRequest> {
        let mut volumes = BTreeMap::from([(Step::Home, self.volume("home"))]);
        if self.spec.has_toolbox_volume() {
            volumes.insert(Step::Toolbox, self.volume("toolbox"));
        }
        volumes
    }

    pub(super) fn agent(&self) -> ContainerCreateBody {
        let Self { spec, at, .. } = self;
        let holes = &spec.holes;
        let has_way_out = spec.bundle.serves.is_some();
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
        let wanted = &self.spec.mounts;
        (!wanted.is_empty()).then(|| wanted.iter().map(mount).collect())
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
}
