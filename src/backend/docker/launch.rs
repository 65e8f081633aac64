//! Carries a plan out, step by step; each is pushed on the stack of undo steps the moment the thing exists.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, NetworkConnectRequest, NetworkCreateRequest,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use ipnet::Ipv4Net;

use super::attached::Attached;
use super::bottle::DockerBottle;
use super::cleanup;
use super::daemons::Daemons;
use super::engine::Engine;
use super::error::{DockerError, call, missing, status};
use super::image::Image;
use super::owner::Owner;
use super::pinning::{joining, pin};
use super::plan::{Facts, Plan, Step, check};
use super::spec::Spec;
use super::way_out::WayOut;
use crate::bottle::session::Session;
use crate::teardown::Teardown;

/// How long a session may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// How often it is looked for what is left of a launch that was given up, and how long after each look.
const LOOKS: usize = 12;
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// How many subnets are tried when others take them first.
const TRIES: usize = 64;

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
    prepare(engine, spec, done).await?.launch().await
}

/// The first stage of a launch: image, network and volumes.
pub(super) async fn prepare<'a>(
    engine: &'a Engine,
    spec: &Spec,
    done: &'a (dyn Fn(Step) + Send + Sync),
) -> Result<Prepared<'a>, DockerError> {
    let guard = Guard::new(engine, &spec.name);
    let mut making = Making { engine, done, teardown: Teardown::new() };
    match Box::pin(making.stage(spec)).await {
        Ok((plan, network)) => Ok(Prepared { making, guard, plan, network }),
        Err(error) => Err(making.given_up(error).await),
    }
}

/// A bottle whose network is there, and whose containers are not.
pub(super) struct Prepared<'a> {
    making: Making<'a>,
    guard: Guard,
    /// What is carried out.
    pub(super) plan: Plan,
    network: String,
}

impl Prepared<'_> {
    /// The rest of the launch.
    pub(super) async fn launch(self) -> Result<Launched, DockerError> {
        let Self { mut making, guard, plan, network } = self;
        match Box::pin(making.containers(&plan)).await {
            Ok(Running { bundle, agent, session, daemons }) => {
                let engine = making.engine.clone();
                let (agents, bundles) = (agent.clone(), bundle.id.clone());
                let kept = (session, making.teardown, guard);
                let bottle = DockerBottle::new(engine, plan.clone(), agents, bundles, kept);
                let bottle = bottle.with(daemons);
                Ok(Launched { plan, network, bundle, agent, bottle })
            }
            Err(error) => Err(making.given_up(error).await),
        }
    }
}

/// What runs at the end of a launch.
struct Running {
    bundle: Container,
    agent: Container,
    session: Session,
    daemons: Option<Daemons>,
}

struct Making<'a> {
    engine: &'a Engine,
    done: &'a (dyn Fn(Step) + Send + Sync),
    teardown: Teardown,
}

impl Making<'_> {
    /// The first failure is the one to tell; what could not be undone shows in `ls`.
    async fn given_up(&mut self, error: DockerError) -> DockerError {
        let _ = self.teardown.run().await;
        error
    }

    /// Image, network and volumes.
    async fn stage(&mut self, spec: &Spec) -> Result<(Plan, String), DockerError> {
        let engine = self.engine;
        // Whatever can be told beforehand is told before anything is made.
        let hashed = tokio::task::spawn_blocking(Image::of_toolbox);
        let facts = engine.facts(spec).await?;
        check(spec, &facts)?;
        let image = hashed.await.unwrap_or_else(|_| Image::of_toolbox())?;
        let built = async {
            image.ensure(engine).await?;
            (self.done)(Step::Image);
            Ok::<(), DockerError>(())
        };
        if let Some(wanted) = &spec.image {
            engine.image(wanted).await?;
        }
        if let Some(wanted) = &spec.bundle.image {
            engine.image(wanted).await.map_err(|error| match error {
                DockerError::NoImage(image) => DockerError::NoBundleImage(image),
                other => other,
            })?;
        }
        let (built, planned) = tokio::join!(built, claim(engine, spec, image.tag(), facts.clone()));
        let (network, mut plan) = planned?;
        self.undo_network(&network);
        (self.done)(Step::Network);
        if let Some(out) = claim_way_out(engine, spec, &mut plan, facts).await? {
            self.undo_network(&out);
            (self.done)(Step::WayOut);
        }
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
        Ok((plan, network))
    }

    /// The containers, until the agent's session has greeted.
    async fn containers(&mut self, plan: &Plan) -> Result<Running, DockerError> {
        let engine = self.engine;
        let names = (plan.container("bundle"), plan.container("agent"));
        let bundle = create(engine, &names.0, plan.bundle.clone());
        let agent = create(engine, &names.1, plan.agent.clone());
        // One that joins the other must find it, and find it running: its pinned address is taken only then.
        let apart = plan.agent.networking_config.is_some();
        let (bundle, agent) =
            if apart { tokio::join!(bundle, agent) } else { (bundle.await, agent.await) };
        let (bundle, agent) =
            (self.created(Step::Bundle, bundle), self.created(Step::Agent, agent));
        let (bundle, agent) = (bundle?, agent?);
        if let Some(out) = &plan.way_out {
            connect(engine, &out.network.name, out.connection.clone(), &bundle).await?;
        }
        let pinner = self.pinner(plan, &agent).await?;

        let attached = engine.attach(&agent).await?;
        let start_bundle = self.start(&bundle, Step::BundleRuns);
        let start_agent = self.start(&agent, Step::AgentRuns);
        if apart {
            let (started_bundle, started_agent) = tokio::join!(start_bundle, start_agent);
            started_bundle.and(started_agent)?;
        } else {
            start_bundle.await?;
            start_agent.await?;
        }
        let (bundle_pid, agent_pid) = tokio::join!(engine.pid(&bundle), engine.pid(&agent));
        let bundle = Container { id: bundle, pid: bundle_pid? };
        let agent = Container { id: agent, pid: agent_pid? };
        if plan.pinned {
            pin(engine, plan, &agent, pinner.as_deref()).await?;
            (self.done)(Step::Pinned);
        }
        if let Some(pinner) = pinner {
            engine.remove_container(&pinner).await?;
        }
        let daemons = Daemons::awaited(engine, plan, &bundle.id).await?;
        if daemons.is_some() {
            (self.done)(Step::DaemonsRun);
        }
        if let Some(second) = &plan.second_network {
            connect(engine, second, NetworkConnectRequest::default(), &agent.id).await?;
            (self.done)(Step::SecondNetwork);
        }
        let session = greet(attached).await?;
        if plan.starved {
            let limit =
                ContainerUpdateBody { pids_limit: Some(1), ..ContainerUpdateBody::default() };
            let limited = engine.docker.update_container(&agent.id, limit).await;
            limited.map_err(call(format!("limit the container {}", agent.id)))?;
        }
        (self.done)(Step::Greeted);
        Ok(Running { bundle, agent, session, daemons })
    }

    fn undo<F>(&mut self, what: &str, id: &str, undo: fn(Engine, String) -> F)
    where
        F: Future<Output = Result<(), DockerError>> + Send + 'static,
    {
        let (engine, owned) = (self.engine.clone(), id.to_owned());
        self.teardown.push_beside(format!("{what} {id}"), move || undo(engine, owned));
    }

    fn undo_network(&mut self, id: &str) {
        self.undo("the network", id, |engine, id| async move { engine.remove_network(&id).await });
    }

    fn created(
        &mut self,
        step: Step,
        id: Result<String, DockerError>,
    ) -> Result<String, DockerError> {
        let id = id?;
        // One after the other: an engine that removed two at once from a network was seen to keep one of them in its count, and
        // the network with it until its restart (Engine 20.10).
        self.teardown.next_stage();
        self.undo(
            "the container",
            &id,
            |engine, id| async move { engine.remove_container(&id).await },
        );
        (self.done)(step);
        Ok(id)
    }

    /// The container that pins routes; created before the agent starts, it also fills the toolbox's volume.
    async fn pinner(&mut self, plan: &Plan, agent: &str) -> Result<Option<String>, DockerError> {
        let planned = plan.pinner.clone().filter(|_| plan.steps().any(|step| step == Step::Pinner));
        let Some(body) = planned else { return Ok(None) };
        let id = create(self.engine, &plan.container("pinner"), joining(body, agent)).await;
        self.created(Step::Pinner, id).map(Some)
    }

    async fn start(&self, id: &str, step: Step) -> Result<(), DockerError> {
        start(self.engine, id).await?;
        (self.done)(step);
        Ok(())
    }
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

pub(super) async fn greet(attached: Attached) -> Result<Session, DockerError> {
    let Attached { output, input, complaint } = attached;
    let said = async { complaint.so_far().as_str().trim().to_owned() };
    Session::open_or_told(output, input, HANDSHAKE, said).await.map_err(DockerError::Session)
}

/// Plans a bottle and makes its network.
pub(super) async fn claim(
    engine: &Engine,
    spec: &Spec,
    toolbox: &str,
    mut facts: Facts,
) -> Result<(String, Plan), DockerError> {
    let owner = Owner::this().map_err(DockerError::Owner)?.to_string();
    let plan = |lost| {
        facts.taken.extend(lost);
        Plan::new(spec, &facts, toolbox, &owner, rand::random::<u32>() as usize)
    };
    make_network(engine, plan, |plan| (plan.network.clone(), plan.subnet)).await
}

/// Makes the network that leads out, if one is planned; its id.
pub(super) async fn claim_way_out(
    engine: &Engine,
    spec: &Spec,
    plan: &mut Plan,
    facts: Facts,
) -> Result<Option<String>, DockerError> {
    let Some(first) = plan.way_out.take() else { return Ok(None) };
    let labels = first.network.labels.clone().unwrap_or_default();
    let mut taken = [facts.taken, vec![plan.subnet]].concat();
    let planned = |lost| match lost {
        None => Ok(first.clone()),
        Some(lost) => {
            taken.push(lost);
            WayOut::plan(spec, &labels, &taken, 0).map(Box::new)
        }
    };
    let made = make_network(engine, planned, |out| (out.network.clone(), out.subnet)).await;
    let (id, out) = made?;
    plan.way_out = Some(out);
    Ok(Some(id))
}

/// Makes a network as `plan` has it, which is told the subnet that somebody else took first, if so; the network's id, and the plan.
async fn make_network<P>(
    engine: &Engine,
    mut plan: impl FnMut(Option<Ipv4Net>) -> Result<P, DockerError>,
    network: impl Fn(&P) -> (NetworkCreateRequest, Ipv4Net),
) -> Result<(String, P), DockerError> {
    let (mut lost, mut tries) = (None, 0);
    loop {
        let planned = plan(lost)?;
        let (request, subnet) = network(&planned);
        let name = request.name.clone();
        match engine.docker.create_network(request).await {
            Ok(made) => return Ok((made.id, planned)),
            Err(error) if overlaps(&error) && tries < TRIES => {
                (lost, tries) = (Some(subnet), tries + 1);
            }
            Err(error) => return Err(call(format!("create the network {name}"))(error)),
        }
    }
}

/// Puts a container on a further network.
pub(super) async fn connect(
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

/// Removes what this process has made of a bottle. What an engine was asked for may come into being after the first look, so there are
/// several, until nothing has been there twice.
async fn sweep(engine: &Engine, bottle: &str) {
    let owner = Owner::this().map(|owner| owner.to_string()).unwrap_or_default();
    let mut nothing = 0;
    for _ in 0..LOOKS {
        let found = cleanup::find(engine, Some(bottle)).await.unwrap_or_default();
        let mut ours = found.into_iter().filter(|found| found.owner == owner).peekable();
        nothing = if ours.peek().is_some() { 0 } else { nothing + 1 };
        if nothing == 2 {
            return;
        }
        for one in ours {
            let _ = one.remove(engine).await;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
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
                sweep(&engine, &bottle).await;
            });
        });
        let _ = sweeping.join();
    }
}
