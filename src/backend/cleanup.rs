//! What launches have left on this host, wherever that is, and removing what nobody owns any more.
//!
//! Bottles of namespaces, and private engines, are gone with their launcher. What outlives one is on an engine, or with smolvm;
//! a bottle that is a machine has something in both places.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;

use super::docker::owner::{Held, Traces};
use super::docker::{self, DockerError, Engine};
use super::smolmachines::cleanup as machines;
use super::smolmachines::smolvm::run::Here;
use super::smolmachines::smolvm::{Smolvm, SmolvmError};
use crate::host::Host;

/// What is there of one bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The bottle's name, as its labels say: text of whoever made them.
    pub name: String,
    /// Who launched it, as its labels say.
    pub owner: String,
    /// What is on the engine.
    pub on_engine: Option<docker::cleanup::Found>,
    /// The machine.
    pub machine: Option<machines::Found>,
}

/// A place that does not do what it is asked.
#[derive(Debug, Error)]
pub enum Trouble {
    /// The engine.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// smolvm.
    #[error(transparent)]
    Smolvm(#[from] SmolvmError),
}

/// The places on this host where bottles are, and all that is there.
#[derive(Debug, Default)]
pub struct Look {
    /// The engine, where one answers.
    pub engine: Option<Engine>,
    /// smolvm, where it is on `PATH` and answers.
    pub smolvm: Option<Smolvm>,
    /// What is there of each bottle, by name.
    pub found: Vec<Found>,
    /// Why a place could not be looked at. That there is no smolvm is none.
    pub troubles: Vec<Trouble>,
}

impl Look {
    /// Looks at the engine of `host`, and at the machines of this user.
    pub async fn at(host: &Host) -> Self {
        let mut look = Self::default();
        let program = which::which("smolvm").ok();
        let (engine, smolvm) = tokio::join!(on_engine(host), async {
            match program {
                Some(program) => Some(with_smolvm(&program).await),
                None => None,
            }
        });
        let (mut on_engine, mut with_smolvm) = (Vec::new(), Vec::new());
        match engine {
            Ok((engine, found)) => (look.engine, on_engine) = (Some(engine), found),
            Err(error) => look.troubles.push(error.into()),
        }
        match smolvm {
            Some(Ok((smolvm, found))) => (look.smolvm, with_smolvm) = (Some(smolvm), found),
            Some(Err(error)) => look.troubles.push(error.into()),
            None => {}
        }
        look.found = together(on_engine, with_smolvm);
        look
    }

    /// Removes all that there is of a bottle.
    ///
    /// The machine first: one without labels is known by its bundle, which stays for as long as the machine does.
    pub async fn remove(&self, found: &Found) -> Result<(), Trouble> {
        if let (Some(machine), Some(smolvm)) = (&found.machine, &self.smolvm) {
            smolvm.delete(&machine.name).await?;
        }
        if let (Some(there), Some(engine)) = (&found.on_engine, &self.engine) {
            there.remove(engine).await?;
        }
        Ok(())
    }
}

impl Found {
    /// When the first of it was made.
    pub fn created(&self) -> Option<SystemTime> {
        let on_engine = self.on_engine.as_ref().and_then(|found| found.created);
        let machine = self.machine.as_ref().and_then(|machine| machine.created);
        on_engine.into_iter().chain(machine).min()
    }

    fn traces(&self) -> Traces<'_> {
        let on_engine = self.on_engine.as_ref();
        let machine = self.machine.as_ref();
        Traces {
            owner: &self.owner,
            runs: on_engine.is_some_and(|found| found.runs)
                || machine.is_some_and(|found| found.runs),
            grown: on_engine
                .and_then(|found| found.grown)
                .max(machine.and_then(|found| found.created)),
        }
    }

    /// Its launcher's PID, in that one's PID namespace.
    pub fn pid(&self) -> Option<u32> {
        self.traces().pid()
    }

    /// Whether somebody holds it, seen from here and now.
    pub fn held(&self) -> Held {
        self.traces().held()
    }
}

async fn on_engine(host: &Host) -> Result<(Engine, Vec<docker::cleanup::Found>), DockerError> {
    let engine = Engine::of_host(host).await?;
    let found = docker::cleanup::find(&engine, None).await?;
    Ok((engine, found))
}

async fn with_smolvm(program: &Path) -> Result<(Smolvm, Vec<machines::Found>), SmolvmError> {
    let smolvm = Smolvm::find(program, Arc::new(Here::default())).await?;
    let found = machines::find(&smolvm).await?;
    Ok((smolvm, found))
}

/// Puts machines to their bundles. One without labels that has no bundle is somebody else's.
fn together(
    on_engine: Vec<docker::cleanup::Found>,
    mut machines: Vec<machines::Found>,
) -> Vec<Found> {
    let mut all = Vec::new();
    for there in on_engine {
        let is_its = |machine: &machines::Found| {
            machine.name == there.name
                && machine.owner.as_ref().is_none_or(|owner| *owner == there.owner)
        };
        let machine = machines.iter().position(is_its).map(|place| machines.swap_remove(place));
        let (name, owner) = (there.name.clone(), there.owner.clone());
        all.push(Found { name, owner, on_engine: Some(there), machine });
    }
    for machine in machines {
        let Some(owner) = machine.owner.clone() else { continue };
        all.push(Found {
            name: machine.name.clone(),
            owner,
            on_engine: None,
            machine: Some(machine),
        });
    }
    all.sort_by(|a, b| (&a.name, &a.owner).cmp(&(&b.name, &b.owner)));
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn bundle(name: &str, owner: &str) -> docker::cleanup::Found {
        docker::cleanup::Found {
            name: name.into(),
            owner: owner.into(),
            created: Some(at(5)),
            grown: Some(at(6)),
            ..docker::cleanup::Found::default()
        }
    }

    fn machine(name: &str, owner: Option<&str>) -> machines::Found {
        let owner = owner.map(ToOwned::to_owned);
        machines::Found { name: name.into(), owner, runs: true, created: Some(at(7)) }
    }

    #[test]
    fn a_machine_and_its_bundle_are_one_bottle() {
        let all = together(
            vec![bundle("b", "me"), bundle("old", "me"), bundle("c", "me")],
            vec![
                machine("theirs", None),
                machine("b", Some("me")),
                machine("c", Some("another")),
                machine("alone", Some("me")),
                machine("old", None),
            ],
        );
        let told: Vec<_> = all
            .iter()
            .map(|one| (&*one.name, &*one.owner, one.on_engine.is_some(), one.machine.is_some()))
            .collect();
        assert_eq!(
            told,
            [
                ("alone", "me", false, true),
                ("b", "me", true, true),
                // The same name, and somebody else's.
                ("c", "another", false, true),
                ("c", "me", true, false),
                ("old", "me", true, true),
            ]
        );
    }

    #[test]
    fn a_bottle_grows_until_the_last_of_it_is_made() {
        let whole = together(vec![bundle("b", "me")], vec![machine("b", Some("me"))]).remove(0);
        let Traces { owner, runs, grown } = whole.traces();
        assert_eq!((owner, runs, grown, whole.created()), ("me", true, Some(at(7)), Some(at(5))));
    }
}
