//! The handle to a bottle on an engine.

use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;
use std::net::{IpAddr, Ipv4Addr};

use super::engine::Engine;
use super::error::{DockerError, call};
use super::launch::{Container, Guard, create, finish, joining};
use super::plan::{Plan, pinner_that_looks};
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
        Self { engine, plan, agent, bundle, session, undo }
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

    /// Whether the agent's routes still are what they were pinned to: a restart, or a network that the agent was
    /// connected to since, brings others. Read from outside; where `/proc` does not show them, by a container that joins
    /// the agent's net namespace and has no capability.
    pub async fn verify(&self) -> Result<(), DockerError> {
        if !self.plan.verified {
            return Ok(());
        }
        if let Some(seen) = self.engine.look(self.agent.pid, &self.agent.id) {
            let wrong = wrong(&seen, self.plan.bundle_address);
            return wrong.map_or(Ok(()), |why| Err(DockerError::Routes(Untrusted::new(why))));
        }
        let Some(pinner) = &self.plan.pinner else { return Ok(()) };
        let looker = joining(pinner_that_looks(pinner.clone()), &self.agent.id);
        let name = format!("{}-{:08x}", self.plan.container("looker"), rand::random::<u32>());
        let id = create(&self.engine, &name, looker).await?;
        let seen = finish(&self.engine, &id).await;
        self.engine.remove_container(&id).await?;
        seen
    }
}

/// What is not as pinned.
fn wrong(seen: &crate::lab::Observation, bundle: Ipv4Addr) -> Option<String> {
    let pinned = |(net, via, _): &(ipnet::IpNet, IpAddr, String)| {
        net.addr() == IpAddr::V4(bundle) && net.prefix_len() == 32 && via.is_unspecified()
    };
    if let Some(route) = seen.routes.iter().find(|route| !pinned(route)) {
        return Some(format!("there is another route: {} by {} on {}", route.0, route.1, route.2));
    }
    if seen.routes.is_empty() {
        return Some("there is no route at all".to_owned());
    }
    let v6 = seen.addresses_v6.iter().find(|(_, interface)| interface != "lo");
    v6.map(|(address, interface)| format!("there is IPv6: {address} on {interface}"))
}

#[async_trait]
impl Bottle for DockerBottle {
    fn name(&self) -> &str {
        &self.plan.name
    }

    fn toolbox(&self) -> &str {
        self.session.toolbox()
    }

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        self.verify().await.map_err(|error| BottleError::Backend {
            what: "no command is run in the bottle".to_owned(),
            source: error.into(),
        })?;
        self.session.start(command)
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        let undo = self.undo.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some((mut teardown, mut guard)) = undo else { return Ok(()) };
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
