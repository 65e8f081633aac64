//! Machines that launches have left, and removing those that nobody owns any more.

use super::smolvm::reply::Machine;
use super::smolvm::{Smolvm, SmolvmError};
use crate::backend::docker::owner::{Owner, State};
use crate::backend::docker::plan::label;

/// A machine that bears the labels of a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, which is the bottle's.
    pub name: String,
    /// Who launched it, as its label says: text of whoever made it.
    pub owner: String,
    /// Whether it runs.
    pub runs: bool,
}

impl Found {
    fn of(machine: Machine) -> Option<Self> {
        let Machine { name, state, mut labels, .. } = machine;
        labels.remove(label::BOTTLE)?;
        let owner = labels.remove(label::OWNER).unwrap_or_default();
        Some(Self { name, owner, runs: state == "running" })
    }

    /// What is known of its owner.
    pub fn state(&self) -> State {
        let owner = self.owner.parse::<Owner>().ok();
        owner.and_then(|owner| owner.state().ok()).unwrap_or(State::Unreadable)
    }
}

/// Every machine that bears the labels of a bottle. Releases before 1.8 have no labels: what they made is not known.
pub async fn find(smolvm: &Smolvm) -> Result<Vec<Found>, SmolvmError> {
    Ok(smolvm.machines().await?.into_iter().filter_map(Found::of).collect())
}

/// Deletes the machines whose launchers have ended on this host; the names of those that are gone.
pub async fn clean(smolvm: &Smolvm) -> Result<Vec<String>, SmolvmError> {
    let mut gone = Vec::new();
    for found in find(smolvm).await? {
        if found.state() == State::Dead {
            smolvm.delete(&found.name).await?;
            gone.push(found.name);
        }
    }
    Ok(gone)
}
