//! Machines that launches have left.

use std::time::{Duration, SystemTime};

use super::smolvm::reply::Machine;
use super::smolvm::{Smolvm, SmolvmError};
use crate::backend::docker::plan::label;

/// A machine that may be a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, which is the bottle's.
    pub name: String,
    /// Who launched it, as its label says: text of whoever made it. None where it has no label, as those of releases that
    /// have none: it is a bottle if there is a bundle of this name.
    pub owner: Option<String>,
    /// Whether it runs.
    pub runs: bool,
    /// When it was made.
    pub created: Option<SystemTime>,
}

impl From<Machine> for Found {
    fn from(machine: Machine) -> Self {
        let Machine { name, state, mut labels, created, .. } = machine;
        let owner = labels.remove(label::BOTTLE).map(|_| labels.remove(label::OWNER));
        Self {
            name,
            owner: owner.map(Option::unwrap_or_default),
            // Whatever else a newer release may call it.
            runs: !matches!(&*state, "created" | "stopped" | "failed"),
            created: created.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }
}

/// Every machine that smolvm has for this user.
pub async fn find(smolvm: &Smolvm) -> Result<Vec<Found>, SmolvmError> {
    Ok(smolvm.machines().await?.into_iter().map(Found::from).collect())
}
