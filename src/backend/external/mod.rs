//! Any command that runs a program inside a sandbox: `claude-bottle probe --in 'COMMAND'`.
//!
//! Nothing of the sandbox is ours, and its net namespace is not known beforehand. So the sites are what this machine
//! offers without being changed, each with a witness of this run, and nothing else is dialled.

mod arena;
mod command;
mod greeting;
mod sandbox;
mod witness;

use std::time::Duration;

use async_trait::async_trait;

use self::arena::ExternalArena;
pub use self::command::{CommandError, SandboxCommand};
use super::{Arena, Backend, LaunchError};
use crate::breach::Breach;

/// The backend's name.
pub const NAME: &str = "external";

/// How long the toolbox may take to answer: a container may have to be made first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox of another make.
#[derive(Debug, Clone)]
pub struct External {
    command: SandboxCommand,
    patience: Duration,
}

impl External {
    /// The sandbox that `command` runs programs in.
    pub fn new(command: SandboxCommand) -> Self {
        Self { command, patience: PATIENCE }
    }

    /// How long the toolbox may take to answer.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

#[async_trait]
impl Backend for External {
    fn name(&self) -> &'static str {
        NAME
    }

    fn breaches(&self) -> &'static [Breach] {
        &[]
    }

    async fn launch(&self, _: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        let arena = ExternalArena::launch(&self.command, self.patience).await?;
        Ok(Box::new(arena))
    }
}
