//! Any command that runs a program inside a sandbox: `claude-bottle probe --in 'COMMAND'`.
//!
//! Nothing of the sandbox is ours, and its net namespace is not known beforehand. So the sites are what this machine
//! offers without being changed, each with a witness of this run, and nothing else is dialled.

mod allowed;
mod arena;
mod command;
mod greeting;
mod lab;
mod place;
mod sandbox;
mod witness;

use std::time::Duration;

use async_trait::async_trait;

pub use self::allowed::{AllowError, Allowed};
use self::arena::ExternalArena;
pub use self::command::{CommandError, SandboxCommand};
use self::lab::LabArena;
use super::{Arena, Backend, Cause, LaunchError};
use crate::breach::Breach;
use crate::probe::definition::Probe;

/// The backend's name.
pub const NAME: &str = "external";

/// What turns the cause into the error of a step of a launch.
fn failed<E: Into<Cause>>(step: &str) -> impl FnOnce(E) -> LaunchError {
    LaunchError::at(NAME, step)
}

/// How long the toolbox may take to answer: a container may have to be made first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox of another make.
#[derive(Debug, Clone)]
pub struct External {
    command: SandboxCommand,
    patience: Duration,
    allowed: Vec<Allowed>,
    lab: bool,
    serves_itself: bool,
}

impl External {
    /// The sandbox that `command` runs programs in.
    pub fn new(command: SandboxCommand) -> Self {
        let serves_itself = !cfg!(target_os = "linux");
        Self { command, patience: PATIENCE, allowed: Vec::new(), lab: false, serves_itself }
    }

    /// How long the toolbox may take to answer.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// What the sandbox must reach.
    pub fn allowing(self, allowed: Vec<Allowed>) -> Self {
        Self { allowed, ..self }
    }

    /// Runs the whole command on a stand-in host, with a world around it, instead of on this machine's own network.
    pub fn in_lab(self, lab: bool) -> Self {
        Self { lab, ..self }
    }

    /// Has this very process be the witness on this machine, and send the controls, as it is anyway where no toolbox runs. It has
    /// neither Unix sockets nor a resolver.
    pub fn serving_itself(self) -> Self {
        Self { serves_itself: true, ..self }
    }

    /// What of `probes` is tried, and how: a sandbox of another make may fail to get out in whichever way it likes. What must
    /// be reached is a probe of its own.
    pub fn probes(&self, probes: Vec<Probe>) -> Result<Vec<Probe>, AllowError> {
        let allowed = allowed::probe(&self.allowed, self.lab)?;
        let mut probes: Vec<_> = probes.into_iter().chain(allowed).collect();
        for attempt in probes.iter_mut().flat_map(|probe| &mut probe.attempts) {
            attempt.how.clear();
        }
        probes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(probes)
    }
}

#[async_trait]
impl Backend for External {
    fn name(&self) -> &'static str {
        NAME
    }

    /// In the lab everything is as it is around a bottle of the embedded backend, but for what is inside.
    fn defined_as(&self) -> &'static str {
        if self.lab { "namespace" } else { NAME }
    }

    fn breaches(&self) -> &'static [Breach] {
        &[]
    }

    async fn launch(&self, _: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        if self.lab {
            let arena = Box::pin(LabArena::launch(&self.command, self.patience, &self.allowed));
            return Ok(Box::new(arena.await?));
        }
        let Self { command, allowed, serves_itself, .. } = self;
        let arena = ExternalArena::launch(command, self.patience, allowed, *serves_itself);
        Ok(Box::new(Box::pin(arena).await?))
    }
}
