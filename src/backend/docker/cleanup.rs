//! What launches have left on an engine, and removing what nobody owns any more.

use std::collections::{BTreeMap, HashMap};

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
};

use super::engine::Engine;
use super::error::{DockerError, call};
use super::owner::{Owner, State};
use super::plan::label;

/// What is there of one bottle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The bottle's name.
    pub name: String,
    /// Who launched it, as its labels say: text of whoever made them.
    pub owner: String,
    /// When its first container was created, in seconds since 1970; none without containers.
    pub created: Option<i64>,
    /// Containers, by id.
    pub containers: Vec<String>,
    /// Networks, by id.
    pub networks: Vec<String>,
    /// Volumes, by name.
    pub volumes: Vec<String>,
}

impl Found {
    /// What is known of its owner. One that cannot be read is somebody else's.
    pub fn state(&self) -> State {
        let owner = self.owner.parse::<Owner>().ok();
        owner.and_then(|owner| owner.state().ok()).unwrap_or(State::Foreign)
    }

    /// Removes all of it; every removal is tried, and the first failure told.
    pub async fn remove(&self, engine: &Engine) -> Result<(), DockerError> {
        let mut result = Ok(());
        for id in &self.containers {
            result = result.and(engine.remove_container(id).await);
        }
        for name in &self.volumes {
            result = result.and(engine.remove_volume(name).await);
        }
        for id in &self.networks {
            result = result.and(engine.remove_network(id).await);
        }
        result
    }
}

/// Everything on the engine that bears the labels of bottles, by bottle and owner; only of `bottle`, if one is named.
pub async fn find(engine: &Engine, bottle: Option<&str>) -> Result<Vec<Found>, DockerError> {
    let wanted = match bottle {
        Some(name) => format!("{}={name}", label::BOTTLE),
        None => label::BOTTLE.to_owned(),
    };
    let filters = HashMap::from([("label", vec![wanted])]);
    let containers = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let networks = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let volumes = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let (containers, networks, volumes) = tokio::join!(
        engine.docker.list_containers(Some(containers)),
        engine.docker.list_networks(Some(networks)),
        engine.docker.list_volumes(Some(volumes)),
    );
    let mut all = All::default();
    for container in containers.map_err(call("list the containers"))? {
        let Some(found) = all.of(container.labels) else { continue };
        found.containers.extend(container.id);
        found.created = match (found.created, container.created) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    for network in networks.map_err(call("list the networks"))? {
        let Some(found) = all.of(network.labels) else { continue };
        found.networks.extend(network.id);
    }
    let volumes = volumes.map_err(call("list the volumes"))?.volumes.unwrap_or_default();
    for volume in volumes {
        let Some(found) = all.of(Some(volume.labels)) else { continue };
        found.volumes.push(volume.name);
    }
    Ok(all.0.into_values().collect())
}

#[derive(Default)]
struct All(BTreeMap<(String, String), Found>);

impl All {
    fn of(&mut self, labels: Option<HashMap<String, String>>) -> Option<&mut Found> {
        let mut labels = labels?;
        let name = labels.remove(label::BOTTLE)?;
        let owner = labels.remove(label::OWNER).unwrap_or_default();
        let key = (name.clone(), owner.clone());
        Some(self.0.entry(key).or_insert_with(|| Found { name, owner, ..Found::default() }))
    }
}
