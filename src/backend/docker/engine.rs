//! An engine: where it listens, what it can do, and what it is asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::RemoveVolumeOptions;
use ipnet::{IpNet, Ipv4Net};

use super::error::{DockerError, call, missing, status};
use super::launch::Container;
use super::plan::Facts;
use super::spec::Spec;
use crate::host::{Endpoint, Host};
use crate::lab::Observation;

/// How long a call may take; building the toolbox's image is the longest one.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often, and after what time, a removal is tried again that has to wait for another one.
const TRIES: usize = 200;
const TRY_AGAIN: Duration = Duration::from_millis(25);

/// An engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    endpoint: Endpoint,
    pub(super) proc: PathBuf,
    pub(super) docker: Docker,
    /// What it says of its version, and of its API's.
    pub(super) version: String,
    pub(super) api: String,
}

impl Engine {
    /// Connects to the engine of this host, that which `DOCKER_HOST` names.
    pub async fn of_host(host: &Host) -> Result<Self, DockerError> {
        match &host.docker {
            Ok(docker) => Self::connect(&docker.endpoint, "/proc").await,
            Err(lack) => Err(DockerError::NoEngine(lack.to_string())),
        }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Connects to the engine at `endpoint` and agrees on a version of its API. `proc` is where its processes can be
    /// seen, if they can: `/proc` for an engine of this host.
    pub async fn connect(
        endpoint: &Endpoint,
        proc: impl Into<PathBuf>,
    ) -> Result<Self, DockerError> {
        let answering = endpoint.answering(PATIENCE).await;
        let (docker, said) = answering.map_err(call(format!("reach the engine at {endpoint}")))?;
        Ok(Self {
            endpoint: endpoint.clone(),
            proc: proc.into(),
            docker,
            version: said.version.unwrap_or_default(),
            api: said.api_version.unwrap_or_default(),
        })
    }

    /// The same engine over a connection of its own, for another runtime.
    pub(super) async fn again(&self) -> Result<Self, DockerError> {
        Self::connect(&self.endpoint, &self.proc).await
    }

    /// The client, for what else a lab asks.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// What a plan for `spec` must know.
    pub async fn facts(&self, spec: &Spec) -> Result<Facts, DockerError> {
        let (runtimes, networks) =
            tokio::join!(self.runtimes(spec), self.docker.list_networks(None));
        let networks = networks.map_err(call("list the networks"))?;
        let ipam = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
        let mut taken: Vec<Ipv4Net> =
            ipam.filter_map(|config| config.subnet?.parse().ok()).collect();
        taken.extend(self.host_routes());
        let major = self.version.split('.').next().and_then(|major| major.parse().ok());
        Ok(Facts {
            major: major.unwrap_or(0),
            runtimes: runtimes?,
            ipv6: !self.proc.exists() || self.proc.join("sys/net/ipv6").exists(),
            entered: self.is_entered(),
            taken,
        })
    }

    /// The runtimes that it has, if one of them is wanted: it starts programs to find out.
    async fn runtimes(&self, spec: &Spec) -> Result<Vec<String>, DockerError> {
        if spec.runtime.is_none() {
            return Ok(Vec::new());
        }
        let info = self.docker.info().await.map_err(call("ask the engine what it is"))?;
        let mut runtimes: Vec<_> = info.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort();
        Ok(runtimes)
    }

    /// Where the host goes by itself. Of an engine elsewhere nothing is known, and it refuses what overlaps.
    fn host_routes(&self) -> Vec<Ipv4Net> {
        let routes = read_net(&self.proc.join("1/net"), &["route"]);
        let v4 = |net: IpNet| match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        };
        routes.routes.into_iter().filter_map(|(net, ..)| v4(net)).collect()
    }

    /// Whether this process can be expected to enter the net namespaces of its containers: root, beside an engine of this
    /// machine.
    pub(super) fn is_entered(&self) -> bool {
        let local = matches!(self.endpoint, Endpoint::Unix(_));
        local && self.proc.exists() && nix::unistd::geteuid().is_root()
    }

    /// The net namespace of a container, where this process may enter it. Its first process is known by the container's id
    /// in its cgroup's path, which is looked at once the namespace is held: by then it is that process', or nobody's.
    pub(super) fn entered(&self, container: &Container) -> Option<File> {
        let namespace = self.proc.join(container.pid.to_string()).join("ns/net");
        let namespace = File::open(namespace).ok().filter(|_| self.is_entered())?;
        self.groups(container).map(|_| namespace)
    }

    /// The PID of a running container's first process, as the engine's host counts.
    pub(super) async fn pid(&self, container: &str) -> Result<i64, DockerError> {
        let found = self.docker.inspect_container(container, None).await;
        let found = found.map_err(call(format!("look at the container {container}")))?;
        Ok(found.state.and_then(|state| state.pid).unwrap_or(0))
    }

    /// The id of an image, which is a digest of all that is in it. Nothing is fetched.
    pub async fn image(&self, wanted: &str) -> Result<String, DockerError> {
        let found = self.docker.inspect_image(wanted).await.map_err(|error| {
            let absent = missing(&error);
            let other = call(format!("look for the image {wanted}"))(error);
            if absent { DockerError::NoImage(wanted.to_owned()) } else { other }
        })?;
        Ok(found.id.unwrap_or_default())
    }

    /// Removes a container, running or not; one that is not there is removed.
    pub async fn remove_container(&self, id: &str) -> Result<(), DockerError> {
        let options = bollard::query_parameters::RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        for _ in 0..TRIES {
            match self.docker.remove_container(id, Some(options.clone())).await {
                Ok(()) => return Ok(()),
                Err(error) if missing(&error) => return Ok(()),
                // Somebody else is at it: it is gone in a moment.
                Err(error) if is_in_progress(&error) => tokio::time::sleep(TRY_AGAIN).await,
                Err(error) => return Err(call(format!("remove the container {id}"))(error)),
            }
        }
        Ok(())
    }

    /// Removes a network; one that is not there is removed.
    pub async fn remove_network(&self, id: &str) -> Result<(), DockerError> {
        let mut tries = 0;
        loop {
            match self.docker.remove_network(id).await {
                Ok(()) => return Ok(()),
                Err(error) if missing(&error) => return Ok(()),
                // A container on it is being removed at the same time.
                Err(error) if is_in_use(&error) && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                Err(error) => return Err(call(format!("remove the network {id}"))(error)),
            }
        }
    }

    /// Removes a volume; one that is not there is removed.
    pub async fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        let mut tries = 0;
        loop {
            match self.docker.remove_volume(name, None::<RemoveVolumeOptions>).await {
                Ok(()) => return Ok(()),
                Err(error) if missing(&error) => return Ok(()),
                // A container with it is being removed at the same time.
                Err(error) if is_mounted(&error) && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                Err(error) => return Err(call(format!("remove the volume {name}"))(error)),
            }
        }
    }
}

fn is_in_progress(error: &Error) -> bool {
    status(error) == Some(409) && error.to_string().contains("already in progress")
}

fn is_in_use(error: &Error) -> bool {
    status(error) == Some(403) && error.to_string().contains("active endpoints")
}

fn is_mounted(error: &Error) -> bool {
    status(error) == Some(409) && error.to_string().contains("in use")
}

fn read_net(folder: &Path, names: &[&str]) -> Observation {
    let read = |name: &&str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        Some(((*name).to_owned(), text))
    };
    Observation::parse(&names.iter().filter_map(read).collect::<BTreeMap<_, _>>())
}
