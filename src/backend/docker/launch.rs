//! Carries a plan out, step by step; each is pushed on the stack of undo steps the moment the thing exists.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerUpdateBody, NetworkConnectRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, WaitContainerOptions,
};
use futures_util::StreamExt as _;

use super::attached::Attached;
use super::bottle::DockerBottle;
use super::cleanup;
use super::engine::Engine;
use super::error::{DockerError, call, missing, status};
use super::gateway::Gateway;
use super::image::Image;
use super::owner::Owner;
use super::plan::{Facts, Plan, Step, check};
use super::spec::Spec;
use super::way_out::WayOut;
use crate::bottle::session::Session;
use crate::report::text::Untrusted;
use crate::teardown::Teardown;

/// How long a session may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// How many subnets are tried when others take them first.
const TRIES: usize = 64;
/// How long the pinner may take.
const PINNING: Duration = Duration::from_secs(30);

/// A launched bottle.
#[derive(Debug)]
pub struct Launched {
    /// What was carried out.
    pub plan: Plan,
    /// The network's id.
    pub network: String,
    /// The bundle.
    pub bundle: Container,
    /// The agent.
    pub agent: Container,
    /// The handle.
    pub bottle: DockerBottle,
}

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The PID of its first process, as the engine's host counts.
    pub pid: i64,
}

/// Launches a bottle. `done` is called after each step.
///
/// Whatever was made before a failure is undone, and so it is if the future is dropped.
pub async fn launch(
    engine: &Engine,
    spec: &Spec,
    done: &(dyn Fn(Step) + Send + Sync),
) -> Result<Launched, DockerError> {
    let guard = Guard::new(engine, &spec.name);
    let mut launch = Launch { engine, done, teardown: Teardown::new(), plan: None };
    match Box::pin(launch.run(spec, guard)).await {
        Ok(launched) => Ok(launched),
        Err(error) => {
            // The first failure is the one to tell; what could not be undone shows in `ls`.
            let _ = launch.teardown.run().await;
            Err(error)
        }
    }
}

struct Launch<'a> {
    engine: &'a Engine,
    done: &'a (dyn Fn(Step) + Send + Sync),
    teardown: Teardown,
    plan: Option<Plan>,
}

impl Launch<'_> {
    async fn run(&mut self, spec: &Spec, guard: Guard) -> Result<Launched, DockerError> {
        let engine = self.engine;
        // Whatever can be told beforehand is told before anything is made.
        let facts = engine.facts().await?;
        check(spec, &facts)?;
        let image = Image::new()?;
        let built = async {
            image.ensure(engine).await?;
            (self.done)(Step::Image);
            Ok::<(), DockerError>(())
        };
        if let Some(wanted) = &spec.image {
            engine.docker.inspect_image(wanted).await.map_err(|error| {
                let absent = missing(&error);
                let other = call(format!("look for the image {wanted}"))(error);
                if absent { DockerError::NoImage(wanted.clone()) } else { other }
            })?;
        }
        let (built, planned) = tokio::join!(built, claim(engine, spec, image.tag(), facts.clone()));
        let (network, mut plan) = planned?;
        self.undo(
            "the network",
            &network,
            |engine, id| async move { engine.remove_network(&id).await },
        );
        (self.done)(Step::Network);
        if let Some(out) = claim_way_out(engine, spec, &mut plan, facts).await? {
            self.undo(
                "the network",
                &out,
                |engine, id| async move { engine.remove_network(&id).await },
            );
            (self.done)(Step::WayOut);
        }
        self.plan = Some(plan.clone());
        built?;
        for (step, volume) in &plan.volumes {
            let name = volume.name.clone().unwrap_or_default();
            let made = engine.docker.create_volume(volume.clone()).await;
            made.map_err(call(format!("create the volume {name}")))?;
            self.undo("a volume", &name, |engine, name| async move {
                engine.remove_volume(&name).await
            });
            (self.done)(*step);
        }

        // One that joins the other must find it.
        let bundle = self.create(&plan.container("bundle"), plan.bundle.clone()).await;
        let bundle = self.created(Step::Bundle, bundle)?;
        if let Some(out) = &plan.way_out {
            connect(engine, &out.network.name, out.connection.clone(), &bundle).await?;
        }
        let agent = self.create(&plan.container("agent"), plan.agent.clone()).await;
        let agent = self.created(Step::Agent, agent)?;
        let pinner = self.pinner(&plan, &agent, spec.image.is_some()).await?;

        let attached = engine.attach(&agent).await?;
        // The pinned address of the bundle is taken only when it starts: it goes first where the agent joins it.
        let (started_bundle, started_agent) = if plan.agent.networking_config.is_some() {
            tokio::join!(self.start(&bundle, Step::BundleRuns), self.start(&agent, Step::AgentRuns))
        } else {
            let started = self.start(&bundle, Step::BundleRuns).await;
            (started, self.start(&agent, Step::AgentRuns).await)
        };
        started_bundle?;
        started_agent?;
        if let Some(pinner) = pinner.filter(|_| plan.pinner.is_some()) {
            finish(engine, &pinner).await?;
            engine.remove_container(&pinner).await?;
            (self.done)(Step::Pinned);
        }
        let gateway = match &plan.way_out {
            Some(_) => {
                let gateway = Gateway::listening(engine, &bundle).await?;
                (self.done)(Step::GatewayListens);
                Some(gateway)
            }
            None => None,
        };
        if let Some(second) = &plan.second_network {
            connect(engine, second, NetworkConnectRequest::default(), &agent).await?;
            (self.done)(Step::SecondNetwork);
        }
        let (session, pids) = tokio::join!(greet(attached), pids(engine, &bundle, &agent));
        let (session, (bundle_pid, agent_pid)) = (session?, pids?);
        if plan.starved {
            let limit =
                ContainerUpdateBody { pids_limit: Some(1), ..ContainerUpdateBody::default() };
            let limited = engine.docker.update_container(&agent, limit).await;
            limited.map_err(call(format!("limit the container {agent}")))?;
        }
        (self.done)(Step::Greeted);
        let bundle = Container { id: bundle, pid: bundle_pid };
        let agent = Container { id: agent, pid: agent_pid };
        let teardown = std::mem::take(&mut self.teardown);
        let bottle = DockerBottle::new(
            engine.clone(),
            plan.clone(),
            agent.clone(),
            bundle.id.clone(),
            session,
            teardown,
            guard,
        )
        .with(gateway);
        Ok(Launched { plan, network, bundle, agent, bottle })
    }

    fn undo<F>(&mut self, what: &str, id: &str, undo: fn(Engine, String) -> F)
    where
        F: Future<Output = Result<(), DockerError>> + Send + 'static,
    {
        let (engine, owned) = (self.engine.clone(), id.to_owned());
        self.teardown.push(format!("{what} {id}"), move || undo(engine, owned));
    }

    async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, DockerError> {
        create(self.engine, name, body).await
    }

    fn created(
        &mut self,
        step: Step,
        id: Result<String, DockerError>,
    ) -> Result<String, DockerError> {
        let id = id?;
        self.undo(
            "the container",
            &id,
            |engine, id| async move { engine.remove_container(&id).await },
        );
        (self.done)(step);
        Ok(id)
    }

    /// The container that pins routes; created before the agent starts, it also fills the toolbox's volume.
    async fn pinner(
        &mut self,
        plan: &Plan,
        agent: &str,
        fills: bool,
    ) -> Result<Option<String>, DockerError> {
        let Some(body) = plan.pinner.clone() else {
            debug_assert!(!fills || plan.pinner.is_some(), "an image of one's own is pinned");
            return Ok(None);
        };
        let body = joining(body, agent);
        let id = self.create(&plan.container("pinner"), body).await;
        self.created(Step::Pinner, id).map(Some)
    }

    async fn start(&self, id: &str, step: Step) -> Result<(), DockerError> {
        start(self.engine, id).await?;
        (self.done)(step);
        Ok(())
    }
}

/// A container in the net namespace of another.
pub(super) fn joining(mut body: ContainerCreateBody, container: &str) -> ContainerCreateBody {
    if let Some(host) = &mut body.host_config {
        host.network_mode = Some(format!("container:{container}"));
    }
    body
}

pub(super) async fn create(
    engine: &Engine,
    name: &str,
    body: ContainerCreateBody,
) -> Result<String, DockerError> {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let image = body.image.clone().unwrap_or_default();
    let made = engine.docker.create_container(Some(options), body).await;
    let made = made.map_err(|error| {
        if missing(&error) && says(&error, "image") {
            DockerError::ImageGone { image, source: Box::new(error) }
        } else {
            call(format!("create the container {name}"))(error)
        }
    });
    Ok(made?.id)
}

pub(super) async fn start(engine: &Engine, id: &str) -> Result<(), DockerError> {
    let started = engine.docker.start_container(id, None).await;
    started.map_err(|error| {
        if says(&error, "Address already in use") {
            DockerError::AddressTaken { container: id.to_owned(), source: Box::new(error) }
        } else {
            call(format!("start the container {id}"))(error)
        }
    })
}

fn says(error: &Error, words: &str) -> bool {
    status(error).is_some() && error.to_string().contains(words)
}

/// Starts a container that pins routes, and waits until it has ended well.
pub(super) async fn finish(engine: &Engine, id: &str) -> Result<(), DockerError> {
    start(engine, id).await?;
    let mut waiting = Box::pin(engine.docker.wait_container(id, None::<WaitContainerOptions>));
    let ended = tokio::time::timeout(PINNING, waiting.next()).await;
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

pub(super) async fn greet(attached: Attached) -> Result<Session, DockerError> {
    let Attached { output, input, complaint } = attached;
    let said = async { complaint.so_far().as_str().trim().to_owned() };
    Session::open_or_told(output, input, HANDSHAKE, said).await.map_err(DockerError::Session)
}

async fn pids(engine: &Engine, a: &str, b: &str) -> Result<(i64, i64), DockerError> {
    let (a, b) = tokio::join!(engine.pid(a), engine.pid(b));
    Ok((a?, b?))
}

/// Plans a bottle and makes its network, on another subnet if somebody else was quicker.
pub(super) async fn claim(
    engine: &Engine,
    spec: &Spec,
    toolbox: &str,
    mut facts: Facts,
) -> Result<(String, Plan), DockerError> {
    let owner = Owner::this().map_err(DockerError::Owner)?.to_string();
    let mut tries = 0;
    loop {
        let first = rand::random::<u32>() as usize;
        let plan = Plan::new(spec, &facts, toolbox, &owner, first)?;
        match engine.docker.create_network(plan.network.clone()).await {
            Ok(made) => return Ok((made.id, plan)),
            Err(error) if overlaps(&error) && tries < TRIES => {
                tries += 1;
                facts.taken.push(plan.subnet);
            }
            Err(error) => {
                return Err(call(format!("create the network {}", spec.name))(error));
            }
        }
    }
}

/// Makes the network that leads out, if one is planned, on another subnet if somebody else was quicker; its id.
async fn claim_way_out(
    engine: &Engine,
    spec: &Spec,
    plan: &mut Plan,
    facts: Facts,
) -> Result<Option<String>, DockerError> {
    let mut taken = [facts.taken, vec![plan.subnet]].concat();
    let mut tries = 0;
    while let Some(out) = &plan.way_out {
        match engine.docker.create_network(out.network.clone()).await {
            Ok(made) => return Ok(Some(made.id)),
            Err(error) if overlaps(&error) && tries < TRIES => {
                tries += 1;
                taken.push(out.subnet);
                let labels = out.network.labels.clone().unwrap_or_default();
                plan.way_out = Some(Box::new(WayOut::plan(spec, &labels, &taken, 0)?));
            }
            Err(error) => {
                return Err(call(format!("create the network {}", out.network.name))(error));
            }
        }
    }
    Ok(None)
}

/// Puts a container on a further network.
async fn connect(
    engine: &Engine,
    network: &str,
    request: NetworkConnectRequest,
    container: &str,
) -> Result<(), DockerError> {
    let request = NetworkConnectRequest { container: container.to_owned(), ..request };
    let connected = engine.docker.connect_network(network, request).await;
    connected.map_err(call(format!("connect the container {container} to the network {network}")))
}

fn overlaps(error: &Error) -> bool {
    let text = error.to_string();
    status(error).is_some() && (text.contains("overlap") || text.contains("conflicts with network"))
}

/// Removes what there is of a bottle when it is dropped without having been torn down.
#[derive(Debug)]
pub(in crate::backend) struct Guard(Option<(Arc<Engine>, String)>);

impl Guard {
    pub(super) fn new(engine: &Engine, bottle: &str) -> Self {
        Self(Some((Arc::new(engine.clone()), bottle.to_owned())))
    }

    /// There is nothing left to remove.
    pub(in crate::backend) fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some((engine, bottle)) = self.0.take() else { return };
        // A runtime and connections of its own: those of the one who drops this may be about to end. What was asked
        // for and not answered has no id here; its labels find it.
        let sweeping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let Ok(engine) = engine.again().await else { return };
                let owner = Owner::this().map(|owner| owner.to_string()).unwrap_or_default();
                for found in cleanup::find(&engine, Some(&bottle)).await.unwrap_or_default() {
                    if found.owner == owner {
                        let _ = found.remove(&engine).await;
                    }
                }
            });
        });
        let _ = sweeping.join();
    }
}
