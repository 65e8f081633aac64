//! Pinning a bottle, and looking whether it still is: by a process of this machine that enters the agent's net namespace, which
//! takes some milliseconds and root; else by a container that joins it, which takes some hundred.

use std::fs::File;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{LogsOptionsBuilder, WaitContainerOptions};
use futures_util::StreamExt as _;

use super::engine::Engine;
use super::error::DockerError;
use super::launch::{Container, create, start};
use super::plan::Plan;
use crate::backend::namespace::launcher;
use crate::report::text::Untrusted;

/// How long the container may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pins the agent's routes and its packet filter, if that is planned. `pinner` is the container that was made for it, if one was:
/// it is gone then.
pub(super) async fn pin(
    engine: &Engine,
    plan: &Plan,
    agent: &Container,
    pinner: Option<&str>,
) -> Result<(), DockerError> {
    let Some(body) = plan.pinner.as_ref().filter(|_| plan.pinned) else { return Ok(()) };
    if let Some(net) = engine.entered(agent) {
        return there(arguments(body, &["--there"]), net).await;
    }
    match pinner {
        Some(id) => finish(engine, id).await,
        None => by_container(engine, &plan.container("pinner"), body.clone(), agent).await,
    }
}

/// Whether the agent's routes and packet filter still are what they were pinned to: a restart, or a network that the agent was
/// connected to since, brings others.
pub(super) async fn verify(
    engine: &Engine,
    plan: &Plan,
    agent: &Container,
) -> Result<(), DockerError> {
    let Some(body) = plan.pinner.as_ref().filter(|_| plan.verified) else { return Ok(()) };
    if let Some(net) = engine.entered(agent) {
        return there(arguments(body, &["--look", "--there"]), net).await;
    }
    // It keeps the capability: nobody else is shown the packet filter.
    let looker = ContainerCreateBody { cmd: Some(arguments(body, &["--look"])), ..body.clone() };
    let name = format!("{}-{:08x}", plan.container("looker"), rand::random::<u32>());
    by_container(engine, &name, looker, agent).await
}

/// The arguments of the pinner, with these flags.
fn arguments(pinner: &ContainerCreateBody, flags: &[&str]) -> Vec<String> {
    let mut arguments = pinner.cmd.clone().unwrap_or_default();
    let after_role = arguments.len().min(1);
    arguments.splice(after_role..after_role, flags.iter().map(|&flag| flag.to_owned()));
    arguments
}

/// Has the toolbox do it in a net namespace of this machine.
async fn there(arguments: Vec<String>, net: File) -> Result<(), DockerError> {
    let ended = launcher::output(arguments, net).await;
    let ended = ended.map_err(|error| DockerError::Looking(error.into()))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(DockerError::Routes(Untrusted::new(ended.stderr)))
}

async fn by_container(
    engine: &Engine,
    name: &str,
    body: ContainerCreateBody,
    agent: &Container,
) -> Result<(), DockerError> {
    let id = create(engine, name, joining(body, &agent.id)).await?;
    let ended = finish(engine, &id).await;
    engine.remove_container(&id).await?;
    ended
}

/// A container in the net namespace of another.
pub(super) fn joining(mut body: ContainerCreateBody, container: &str) -> ContainerCreateBody {
    if let Some(host) = &mut body.host_config {
        host.network_mode = Some(format!("container:{container}"));
    }
    body
}

/// Starts the container, and waits until it has ended well.
async fn finish(engine: &Engine, id: &str) -> Result<(), DockerError> {
    start(engine, id).await?;
    let mut waiting = Box::pin(engine.docker.wait_container(id, None::<WaitContainerOptions>));
    let ended = tokio::time::timeout(PATIENCE, waiting.next()).await;
    if matches!(ended, Ok(Some(Ok(ref end))) if end.status_code == 0) {
        return Ok(());
    }
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
    let mut said = Vec::new();
    let mut logs = Box::pin(engine.docker.logs(id, Some(options)));
    while let Some(Ok(portion)) = logs.next().await {
        said.extend_from_slice(portion.as_ref());
    }
    if said.is_empty() {
        said = format!("the container that looks after them ended with {ended:?}").into_bytes();
    }
    Err(DockerError::Routes(Untrusted::new(said)))
}
