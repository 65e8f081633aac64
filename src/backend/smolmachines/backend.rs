//! The backend: bottles under test, and bottles for work.

use async_trait::async_trait;

use super::arena::MachineArena;
use super::{NAME, drawn, holes, work};
use crate::backend::{Arena, Backend, LaunchError};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::expected::Table;
use crate::host::Host;
use crate::plan::{Outline, Plan};
use crate::probe::definition::Probe;

/// Bottles that are micro virtual machines: under test, each on the host of a private engine of its own; for work, with the smolvm and
/// the engine of this host.
#[derive(Debug, Clone)]
pub struct Smolmachines {
    host: Host,
}

impl Smolmachines {
    /// The backend as it is on `host`.
    pub fn on(host: &Host) -> Self {
        Self { host: host.clone() }
    }
}

#[async_trait]
impl Backend for Smolmachines {
    fn name(&self) -> &'static str {
        NAME
    }

    fn breaches(&self) -> &'static [Breach] {
        holes::ALL
    }

    fn expected(&self, breach: Option<Breach>, probes: &[Probe]) -> Option<Table> {
        Some(drawn::topology(breach, self.host.smolvm_loopback).table(probes, NAME))
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        let launched = MachineArena::launch(breach, self.host.smolvm_loopback);
        Ok(Box::new(Box::pin(launched).await?))
    }

    fn outline(&self, plan: &Plan) -> Result<Outline, String> {
        work::outline(plan, self.host.smolvm_loopback)
    }

    async fn start(&self, plan: &Plan) -> Result<Box<dyn Bottle>, LaunchError> {
        work::start(&self.host, plan).await
    }
}
