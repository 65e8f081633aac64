//! The handle to a bottle on an engine.

use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;

use super::daemons::Daemons;
use super::engine::Engine;
use super::error::{DockerError, call};
use super::launch::{Container, Guard};
use super::pinning;
use super::plan::Plan;
use crate::bottle::session::Session;
use crate::bottle::{Bottle, BottleError, Command, Running};
use crate::report::text::Untrusted;
use crate::teardown::{Teardown, TeardownError};

/// How much of the bundle's log is fetched, in bytes.
const LOG: usize = 1024 * 1024;

/// A bottle on an engine.
pub struct DockerBottle {
    engine: Engine,
    plan: Plan,
    agent: Container,
    /// Whether the agent's process was seen here.
    was_seen: bool,
    bundle: String,
    session: Session,
    /// None where nobody waits for any.
    daemons: Option<Daemons>,
    undo: Mutex<Option<(Teardown, Guard)>>,
}

impl DockerBottle {
    pub(super) fn new(
        engine: Engine,
        plan: Plan,
        agent: Container,
        bundle: String,
        (session, teardown, guard): (Session, Teardown, Guard),
    ) -> Self {
        let undo = Mutex::new(Some((teardown, guard)));
        let was_seen = engine.groups(&agent).is_some();
        Self { engine, plan, agent, was_seen, bundle, session, daemons: None, undo }
    }

    /// With the daemons that are up in its bundle.
    pub(super) fn with(self, daemons: Option<Daemons>) -> Self {
        Self { daemons, ..self }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the bundle's init and daemons have written, up to a bound.
    pub async fn bundle_log(&self) -> Result<Untrusted, DockerError> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
        let mut logs = Box::pin(self.engine.docker.logs(&self.bundle, Some(options)));
        let mut log = Vec::new();
        while let Some(portion) = logs.next().await {
            log.extend_from_slice(portion.map_err(call("read the bundle's log"))?.as_ref());
            if log.len() >= LOG {
                break;
            }
        }
        Ok(Untrusted::new(log))
    }
}

#[async_trait]
impl Bottle for DockerBottle {
    fn name(&self) -> &str {
        &self.plan.name
    }

    fn toolbox(&self) -> &str {
        self.session.toolbox()
    }

    async fn out_of_memory(&self) -> u64 {
        self.engine.memory_kills(&self.agent, self.was_seen).await
    }

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        let pinned = pinning::verify(&self.engine, &self.plan, &self.agent).await;
        pinned.map_err(|error| BottleError::Backend {
            what: "no command is run in the bottle".to_owned(),
            source: error.into(),
        })?;
        self.session.start(command)
    }

    fn remarks(&self) -> Vec<String> {
        self.daemons.as_ref().map(Daemons::remarks).unwrap_or_default()
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        let undo = self.undo.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some((mut teardown, mut guard)) = undo else { return Ok(()) };
        if let Some(daemons) = &self.daemons {
            daemons.end(&self.engine, &self.bundle).await;
        }
        let undone = teardown.run().await;
        if undone.is_ok() {
            guard.disarm();
        }
        undone
    }
}

impl fmt::Debug for DockerBottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerBottle").field("name", &self.plan.name).finish_non_exhaustive()
    }
}
