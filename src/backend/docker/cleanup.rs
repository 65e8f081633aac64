//! What launches have left on an engine, and removing what nobody owns any more.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
};

use super::engine::Engine;
use super::error::{DockerError, call};
use super::owner::{self, Owner, State};
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

/// Whether somebody holds what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Its launcher runs.
    Live,
    /// Nobody does.
    Left,
    /// It cannot be told from here, for this reason.
    Undecided(&'static str),
}

impl Found {
    /// Its launcher's PID, in that one's PID namespace.
    pub fn pid(&self) -> Option<u32> {
        Some(self.owner.parse::<Owner>().ok()?.pid())
    }

    /// What is known of its owner.
    pub fn state(&self) -> State {
        let owner = self.owner.parse::<Owner>().ok();
        owner.and_then(|owner| owner.state().ok()).unwrap_or(State::Unreadable)
    }

    /// Whether somebody holds it, seen from here and now.
    pub fn held(&self) -> Held {
        self.held_by(self.state(), owner::booted())
    }

    fn held_by(&self, state: State, booted: Option<SystemTime>) -> Held {
        match state {
            State::Alive => Held::Live,
            // A launcher that lives has a container that runs, or is about to: nothing of it is older than its boot.
            State::BeforeBoot if self.runs => Held::Undecided(
                "its launcher had this machine's identity before the last boot, yet it runs",
            ),
            State::BeforeBoot
                if booted.zip(self.grown).is_none_or(|(boot, grown)| grown >= boot) =>
            {
                Held::Undecided(
                    "its launcher has this machine's identity and another boot, and made it after this one's",
                )
            }
            State::Dead | State::BeforeBoot => Held::Left,
            State::OtherNamespace => Held::Undecided(
                "its launcher is in another PID namespace: try it there, or as root outside of all of them",
            ),
            State::OtherMachine => Held::Undecided(
                "its launcher is on another machine, or this one has no machine-id(5)",
            ),
            State::Unreadable => Held::Undecided("who launched it cannot be read from its labels"),
        }
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

    #[test]
    fn after_a_boot_what_neither_runs_nor_is_newer_was_left() {
        let boot = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let found = |runs, seconds: Option<u64>| {
            let grown = seconds.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
            Found { grown, runs, ..Found::default() }.held_by(State::BeforeBoot, Some(boot))
        };
        assert_eq!(found(false, Some(999)), Held::Left);
        for (runs, made) in [(true, Some(999)), (false, Some(1000)), (false, None)] {
            assert!(matches!(found(runs, made), Held::Undecided(_)), "{runs} {made:?}");
        }
        let unknown = Found { grown: Some(boot), ..Found::default() };
        assert!(matches!(unknown.held_by(State::BeforeBoot, None), Held::Undecided(_)));
    }

    #[test]
    fn nothing_of_a_live_or_an_unknown_owner_is_left() {
        let found = Found::default();
        let held = |state| found.held_by(state, None);
        assert_eq!((held(State::Alive), held(State::Dead)), (Held::Live, Held::Left));
        for state in [State::OtherNamespace, State::OtherMachine, State::Unreadable] {
            assert!(matches!(held(state), Held::Undecided(_)), "{state:?}");
        }
        assert_eq!(found.state(), State::Unreadable, "without a label");
    }
}
