//! The handle to a bottle on an engine.

use std::fmt;
use std::fs::File;
use std::sync::Mutex;

use async_trait::async_trait;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;

use super::engine::Engine;
use super::error::{DockerError, call};
use super::gateway::Gateway;
use super::launch::{Container, Guard, create, finish, joining};
use super::plan::{Plan, pinner_that_looks};
use crate::backend::namespace::launcher;
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
    bundle: String,
    session: Session,
    /// None where the bundle has no way out.
    gateway: Option<Gateway>,
    undo: Mutex<Option<(Teardown, Guard)>>,
}

impl DockerBottle {
    pub(super) fn new(
        engine: Engine,
        plan: Plan,
        agent: Container,
        bundle: String,
        session: Session,
        teardown: Teardown,
        guard: Guard,
    ) -> Self {
        let undo = Mutex::new(Some((teardown, guard)));
        Self { engine, plan, agent, bundle, session, gateway: None, undo }
    }

    /// With the gateway that listens in its bundle.
    pub(super) fn with(self, gateway: Option<Gateway>) -> Self {
        Self { gateway, ..self }
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

    /// Whether the agent's routes and packet filter still are what they were pinned to: a restart, or a network that the
    /// agent was connected to since, brings others. The toolbox looks from within the agent's net namespace: as a process
    /// of this machine where that is possible, else in a container.
    pub async fn verify(&self) -> Result<(), DockerError> {
        if !self.plan.verified {
            return Ok(());
        }
        let Some(pinner) = &self.plan.pinner else { return Ok(()) };
        let looker = pinner_that_looks(pinner.clone());
        // A few milliseconds instead of a container's start, for whoever may enter the namespace: root.
        if nix::unistd::geteuid().is_root()
            && let Some(net) = self.engine.net_namespace(self.agent.pid, &self.agent.id)
        {
            let mut arguments = looker.cmd.unwrap_or_default();
            arguments.insert(1, "--there".to_owned());
            return look(arguments, net).await;
        }
        let looker = joining(looker, &self.agent.id);
        let name = format!("{}-{:08x}", self.plan.container("looker"), rand::random::<u32>());
        let id = create(&self.engine, &name, looker).await?;
        let seen = finish(&self.engine, &id).await;
        self.engine.remove_container(&id).await?;
        seen
    }
}

/// Has the toolbox look at a net namespace of this machine.
async fn look(arguments: Vec<String>, net: File) -> Result<(), DockerError> {
    let looked = launcher::output(arguments, net).await;
    let looked = looked.map_err(|error| DockerError::Looking(error.into()))?;
    if looked.status.success() {
        return Ok(());
    }
    Err(DockerError::Routes(Untrusted::new(looked.stderr)))
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
        self.engine.memory_kills(&self.agent).await
    }

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        self.verify().await.map_err(|error| BottleError::Backend {
            what: "no command is run in the bottle".to_owned(),
            source: error.into(),
        })?;
        self.session.start(command)
    }

    fn remarks(&self) -> Vec<String> {
        self.gateway.as_ref().map(Gateway::refusals).unwrap_or_default()
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        let undo = self.undo.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some((mut teardown, mut guard)) = undo else { return Ok(()) };
        if let Some(gateway) = &self.gateway {
            gateway.end(&self.engine, &self.bundle).await;
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
