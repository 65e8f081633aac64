//! What launches have left on an engine, and removing what nobody owns any more.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
};
use futures_util::future::join_all;

use super::engine::Engine;
use super::error::{DockerError, call};
use super::owner::Traces;
use super::plan::label;

/// What is there of one bottle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The bottle's name, as its labels say: text of whoever made them.
    pub name: String,
    /// Who launched it, as its labels say.
    pub owner: String,
    /// When the first of it was made.
    pub created: Option<SystemTime>,
    /// When the last of it was made.
    pub grown: Option<SystemTime>,
    /// Containers, by id.
    pub containers: Vec<String>,
    /// Whether one of them runs.
    pub runs: bool,
    /// Networks, by id.
    pub networks: Vec<String>,
    /// Volumes, by name.
    pub volumes: Vec<String>,
}

impl Found {
    /// What tells whether somebody holds it.
    pub fn traces(&self) -> Traces<'_> {
        Traces { owner: &self.owner, runs: self.runs, grown: self.grown }
    }

    /// Removes all of it; every removal is tried, and the first failure told.
    pub async fn remove(&self, engine: &Engine) -> Result<(), DockerError> {
        let mut removed = Ok(());
        for id in &self.containers {
            removed = removed.and(engine.remove_container(id).await);
        }
        let (volumes, networks) = tokio::join!(
            join_all(self.volumes.iter().map(|name| engine.remove_volume(name))),
            join_all(self.networks.iter().map(|id| engine.remove_network(id))),
        );
        removed.and(volumes.into_iter().chain(networks).collect())
    }

    fn made(&mut self, at: Option<SystemTime>) {
        self.created = self.created.into_iter().chain(at).min();
        self.grown = self.grown.max(at);
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
        found.runs |= container.state == Some(ContainerSummaryStateEnum::RUNNING);
        let seconds = container.created.and_then(|seconds| u64::try_from(seconds).ok());
        found.made(seconds.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s)));
    }
    for network in networks.map_err(call("list the networks"))? {
        let Some(found) = all.of(network.labels) else { continue };
        found.networks.extend(network.id);
        found.made(network.created.as_deref().and_then(time));
    }
    let volumes = volumes.map_err(call("list the volumes"))?.volumes.unwrap_or_default();
    for volume in volumes {
        let Some(found) = all.of(Some(volume.labels)) else { continue };
        found.volumes.push(volume.name);
        found.made(volume.created_at.as_deref().and_then(time));
    }
    Ok(all.0.into_values().collect())
}

/// A time as engines write it (RFC 3339), in their own time zone.
fn time(text: &str) -> Option<SystemTime> {
    if text.ends_with('Z') {
        return humantime::parse_rfc3339(text).ok();
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let offset_by = hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60;
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    match &offset[..1] {
        "+" => local.checked_sub(Duration::from_secs(offset_by)),
        "-" => local.checked_add(Duration::from_secs(offset_by)),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_tell_the_time_of_their_own_zone() {
        let seconds = |text| {
            let since = time(text)?.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            Some(since.as_secs())
        };
        assert_eq!(seconds("1970-01-02T00:00:00.123456789Z"), Some(86_400));
        assert_eq!(seconds("1970-01-02T02:00:00.5+02:00"), Some(86_400));
        assert_eq!(seconds("1970-01-01T18:30:00-05:30"), Some(86_400));
        for nonsense in
            ["", "yesterday", "+02:00", "1970-01-02T02:00:00*02:00", "1970-01-02T02:00:0é:00"]
        {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }
}
