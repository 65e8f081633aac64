//! The embedded backend: a bottle made of Linux namespaces. No root, no daemon, no download.

mod arena;
mod fixture;
mod gateway;
pub(super) mod helper;
pub(in crate::backend) mod launcher;
pub(super) mod real;
mod started;
pub(super) mod world;

use async_trait::async_trait;
use claude_bottle_protocol::helper::Mount;

use self::arena::NamespaceArena;
use self::world::World;
use super::{Arena, Backend, Cause, LaunchError};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::expected::Table;
use crate::plan::{Outline, Plan};
use crate::probe::definition::Probe;

/// The embedded backend.
#[derive(Debug, Clone, Default)]
pub struct Namespace {
    mounts: Vec<Mount>,
}

impl Namespace {
    /// Shows a folder or file of the host at an absolute path in every bottle, read-only. A bottle has nothing else of
    /// the host's files.
    pub fn showing(mut self, source: impl Into<String>, target: impl Into<String>) -> Self {
        let (source, target) = (source.into(), target.into());
        self.mounts.push(Mount { source, target, writable: false });
        self
    }
}

/// The backend's name.
pub(super) const NAME: &str = "namespace";

/// What turns the cause into the error of a step of a launch.
fn failed<E: Into<Cause>>(step: &str) -> impl FnOnce(E) -> LaunchError {
    LaunchError::at(NAME, step)
}

#[async_trait]
impl Backend for Namespace {
    fn name(&self) -> &'static str {
        NAME
    }

    fn breaches(&self) -> &'static [Breach] {
        &world::BREACHES
    }

    fn expected(&self, breach: Option<Breach>, probes: &[Probe]) -> Option<Table> {
        Some(World::topology(breach).table(probes, NAME))
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        NamespaceArena::launch(&self.mounts, breach)
            .await
            .map(|arena| Box::new(arena) as Box<dyn Arena>)
    }

    fn outline(&self, plan: &Plan) -> Result<Outline, String> {
        started::outline(plan)
    }

    async fn start(&self, plan: &Plan) -> Result<Box<dyn Bottle>, LaunchError> {
        started::start(plan).await
    }
}
