//! The embedded backend: a bottle made of Linux namespaces. No root, no daemon, no download.

mod arena;
mod helper;
mod launcher;
mod real;
mod world;

use async_trait::async_trait;

use self::arena::NamespaceArena;
use self::world::World;
use super::{Arena, Backend, LaunchError};
use crate::breach::Breach;
use crate::expected::Table;
use crate::probe::definition::Probe;

/// The embedded backend.
#[derive(Debug, Default)]
pub struct Namespace;

/// The backend's name.
pub(super) const NAME: &str = "namespace";

#[async_trait]
impl Backend for Namespace {
    fn name(&self) -> &'static str {
        NAME
    }

    fn breaches(&self) -> &'static [Breach] {
        world::BREACHES
    }

    fn expected(&self, breach: Option<Breach>, probes: &[Probe]) -> Option<Table> {
        Some(World::topology(breach).table(probes, NAME))
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        NamespaceArena::launch(breach).await.map(|arena| Box::new(arena) as Box<dyn Arena>)
    }
}
