//! Carries a plan out, step by step; each is pushed on the stack of undo steps the moment the thing exists.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::cache::{Cache, CacheError};
use super::guard::Guard;
use super::image::{Hatch, Image, ImageError};
use super::machine::{MachineBottle, Undo};
use super::plan::{LOOPBACK, Network, Plan, Refused, Spec, Way};
use super::smolvm::arguments::{Create, Source};
use super::smolvm::run::Started;
use super::smolvm::version::Version;
use super::smolvm::{Smolvm, SmolvmError};
use crate::backend::docker::beside::{self, Bundle};
use crate::backend::docker::launch::Container;
use crate::backend::docker::owner::Owner;
use crate::backend::docker::plan::{IN_IMAGE, label};
use crate::backend::docker::spec::Serves;
use crate::backend::docker::{DockerError, Engine};
use crate::bottle::BottleError;
use crate::bottle::session::Session;
use crate::report::text::Untrusted;
use crate::teardown::Teardown;
use crate::toolbox::ToolboxError;

/// How long a session may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How many times a machine is started. One that does not come up at once may come up the next time; nothing has been tried in
/// it by then.
const STARTS: usize = 3;
/// The toolbox in a machine.
const TOOLBOX: &str = "/opt/claude-bottle/toolbox";
/// The one that the session is, where the other one cannot be executed.
const SESSION: &str = "/opt/claude-bottle/session";
/// A port that is dialled to see whether an address is reached. Whether anybody listens there does not matter.
const ANY_PORT: u16 = 9;
/// How much of what the session's command complains of is kept, in bytes, and told, in columns.
const COMPLAINT: (u64, usize) = (4096, 600);
/// How long to listen to it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One step of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The bundle's network.
    Network,
    /// The bundle runs, and this host reaches it.
    Bundle,
    /// The image is ready for smolvm.
    Image,
    /// The machine exists.
    Created,
    /// It runs.
    Started,
    /// The session in it has greeted.
    Greeted,
}

/// Why there is no bottle.
#[derive(Debug, Error)]
pub enum LaunchFailed {
    /// The plan is not carried out.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Network and bundle.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// smolvm.
    #[error(transparent)]
    Smolvm(#[from] SmolvmError),
    /// There is no toolbox to copy in.
    #[error(transparent)]
    Toolbox(#[from] ToolboxError),
    /// This process cannot be told apart from others.
    #[error("cannot tell who launches the bottle")]
    Owner(#[source] std::io::Error),
    /// The monitor is a process of this host's, and would not reach the bundle either.
    #[error(
        "this host does not reach the bundle's address {0}, as with engines in a virtual machine (Docker Desktop): the machine would not \
         either. {LOOPBACK}=1 publishes its gateway on this host's loopback instead, which opens every port of that to the machine"
    )]
    NotReached(Ipv4Addr),
    /// Nor there, as with engines elsewhere.
    #[error(
        "the engine has published the bundle's gateway at port {0} of its host's loopback, where this host finds nobody: the engine is on \
         another machine (take one on this machine)"
    )]
    NotPublished(u16),
    /// Somebody has a machine of that name.
    #[error(
        "smolvm has a machine {0} already (`claude-bottle ls` tells whose it is, if it is a bottle)"
    )]
    Taken(String),
    /// smolvm has made something else.
    #[error("smolvm gave the machine another allow-list than it was told: {0}")]
    AllowList(String),
    /// The machine is gone.
    #[error("smolvm does not list the machine {0} that it has made")]
    Gone(String),
    /// A file on its way.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The session does not answer.
    #[error("the session in the machine does not answer{said}")]
    Session {
        /// What its command complains of.
        said: String,
        /// Why.
        source: Box<BottleError>,
    },
}

/// What a launch is done with.
#[derive(Debug)]
pub struct Tools {
    /// smolvm.
    pub smolvm: Smolvm,
    /// The engine that the bundle runs on.
    pub engine: Engine,
    /// Where files are handed over.
    pub hatch: Hatch,
}

/// Where smolvm and an engine are.
#[async_trait]
pub trait Ground: Send + Sync {
    /// What there is.
    fn tools(&self) -> &Tools;

    /// Whether a packet for this address gets to somebody, from where the monitor will be: an answer, if only a refusal.
    /// `from`: the address that this host has on the network of that one, if it is on it.
    async fn reaches(&self, address: SocketAddr, from: Ipv4Addr) -> bool;

    /// Whether somebody listens at this port of loopback, where the monitor will be.
    async fn listens(&self, port: u16) -> bool;
}

/// A launched bottle.
#[derive(Debug)]
pub struct Launched {
    /// What was carried out.
    pub plan: Plan,
    /// The bundle beside it.
    pub bundle: Bundled,
    /// The monitor's process, as the host of smolvm counts; where it is told.
    pub monitor: Option<u32>,
    /// The handle.
    pub bottle: MachineBottle,
}

/// The bundle of a launched bottle.
#[derive(Debug)]
pub struct Bundled {
    /// The plan of its container and network.
    pub plan: crate::backend::docker::plan::Plan,
    /// The container.
    pub container: Container,
    /// Its ports that are published, by their own numbers: those on the loopback of its engine's host.
    pub published: BTreeMap<u16, u16>,
}

/// Launches a bottle. `unenforced`: whether a smolvm that drops allow-lists will do.
/// `done` is called after each step.
///
/// Whatever was made before a failure, or before the future is dropped, is undone. What a launcher leaves that is killed has its
/// name on it, and [`cleanup`](crate::backend::cleanup) finds it by that.
pub async fn launch(
    ground: &dyn Ground,
    cache: &Cache,
    spec: &Spec,
    unenforced: bool,
    done: &(dyn Fn(Step) + Send + Sync),
) -> Result<Launched, LaunchFailed> {
    let mut teardown = Teardown::new();
    match Box::pin(run(ground, cache, spec, unenforced, done, &mut teardown)).await {
        Ok(launched) => Ok(launched),
        Err(error) => {
            // The first failure is the one to tell; what could not be undone shows in `claude-bottle ls`.
            let _ = teardown.run().await;
            Err(error)
        }
    }
}

async fn run(
    ground: &dyn Ground,
    cache: &Cache,
    spec: &Spec,
    unenforced: bool,
    done: &(dyn Fn(Step) + Send + Sync),
    teardown: &mut Teardown,
) -> Result<Launched, LaunchFailed> {
    let Tools { smolvm, engine, hatch } = ground.tools();
    let version = smolvm.version();
    let planned = |way| Plan::new(spec, way, version, unenforced);
    // Before anything is made: of the plan only the bundle's address is not known yet.
    planned(Way::Direct(Ipv4Addr::UNSPECIFIED))?;
    if !version.takes_archives() {
        return Err(ImageError::NoArchives { version }.into());
    }
    let wanted = match &spec.image {
        Some(image) => Some((image.clone(), engine.image(image).await?)),
        None => None,
    };
    // What is undone is known by its name.
    if smolvm.machine(&spec.name).await?.is_some() {
        return Err(LaunchFailed::Taken(spec.name.clone()));
    }
    let owner = Owner::this().map_err(LaunchFailed::Owner)?.to_string();

    let beside = bundle(spec);
    let networked = || done(Step::Network);
    let launching = beside::launch(engine, &beside, teardown, &networked);
    let mut bundle = Box::pin(launching).await?;
    let (ports, mut published) = (spec.ports(), Vec::new());
    let plan = match Box::pin(way(ground, spec, &bundle)).await {
        Some(way) => planned(way)?,
        None if spec.loopback && !ports.is_empty() => {
            planned(Way::Loopback(0))?;
            published = Box::pin(bundle.publish(engine, &beside, &ports, teardown)).await?;
            for port in &published {
                if !ground.listens(*port).await {
                    return Err(LaunchFailed::NotPublished(*port));
                }
            }
            planned(Way::Loopback(published[0]))?
        }
        None => return Err(LaunchFailed::NotReached(bundle.plan.bundle_address)),
    };
    let Bundle { plan: bundle_plan, image, container, daemons, guard: bundle_guard } = bundle;
    done(Step::Bundle);

    // The tag of the toolbox's image holds a hash of all that is in it, and every engine builds that anew.
    let (reference, digest) = wanted.unwrap_or_else(|| (image.clone(), image));
    let image = Image::Docker { engine: Box::new(engine.clone()), reference, digest: Some(digest) };
    let ready = image.ready(smolvm, cache, hatch).await?;
    done(Step::Image);

    let env: Vec<_> = plan.env.iter().map(|(name, value)| (&**name, &**value)).collect();
    let labels = [(label::BOTTLE, &*plan.name), (label::OWNER, &*owner)];
    let create = Create {
        name: &plan.name,
        from: ready.source(),
        allow: &plan.allow,
        env: &env,
        labels: &labels,
        size: plan.size,
        volumes: &plan.volumes,
        open: plan.open,
        ports: &[],
        // What the image itself would run is what the bottle is for, and wants a terminal.
        workload: spec.image.as_ref().map(|_| "true"),
    };
    // Before it is asked for: what was asked for and not answered may exist.
    let guard = Guard::new(smolvm, &plan.name);
    let (undoing, name) = (smolvm.clone(), plan.name.clone());
    teardown
        .push(format!("the machine {name}"), move || async move { undoing.delete(&name).await });
    smolvm.create(&create).await?;
    let machine = smolvm.machine(&plan.name).await?;
    let machine = machine.ok_or_else(|| LaunchFailed::Gone(plan.name.clone()))?;
    if let Some(difference) = plan.differs(machine.allowed_cidrs.as_deref()) {
        return Err(LaunchFailed::AllowList(difference));
    }
    done(Step::Created);

    let mut tries = STARTS;
    while let Err(error) = smolvm.start(&plan.name).await {
        tries -= 1;
        if tries == 0 {
            return Err(error.into());
        }
        // A monitor that smolvm has given up may be there still, and holds the machine's disks.
        let _ = smolvm.stop(&plan.name).await;
    }
    if matches!(ready.source(), Source::Image(_)) {
        // The file system of such a machine is laid out with its first command, and what is copied into it before is not seen by
        // commands (1.9.1). Whether there is such a program in it does not matter.
        let first: &[&str] = if spec.image.is_some() { &["true"] } else { &[IN_IMAGE, "version"] };
        smolvm.exec(&plan.name, first).await?;
    }
    done(Step::Started);

    let (toolbox, session, exec) = enter(ground, spec, &plan.name).await?;
    let monitor = smolvm.machine(&plan.name).await?.and_then(|machine| machine.pid);
    done(Step::Greeted);
    let undo = Undo { teardown: std::mem::take(teardown), machine: guard, bundle: bundle_guard };
    let started = container.clone();
    let daemons = daemons.map(|daemons| (daemons, engine.clone(), container.id));
    let (toolbox, note) = (toolbox.to_owned(), plan.note());
    let bottle = MachineBottle::new(plan.name.clone(), toolbox, session, exec, undo);
    let bottle = bottle.with(daemons, note);
    let published = ports.into_iter().zip(published).collect();
    let bundle = Bundled { plan: bundle_plan, container: started, published };
    Ok(Launched { plan, bundle, monitor, bottle })
}

/// The bundle beside a machine, as it is wanted of an engine.
pub(super) fn bundle(spec: &Spec) -> crate::backend::docker::Spec {
    let mut bundle = crate::backend::docker::Spec::new(spec.name.clone());
    bundle.pool = spec.pool.unwrap_or(bundle.pool);
    bundle.pool_out = spec.pool_out.unwrap_or(bundle.pool_out);
    bundle.bundle.serves = spec.gateway.clone().map(Serves::Gateway);
    bundle.holes.gateway_weakness = spec.holes.gateway_weakness;
    bundle
}

/// How the machine comes to its bundle by itself, if it does.
async fn way(ground: &dyn Ground, spec: &Spec, bundle: &Bundle) -> Option<Way> {
    let (address, host) = (bundle.plan.bundle_address, bundle.plan.gateway);
    // Where it has nobody there to dial, or none of its own to dial by, it does not matter.
    let is_offline = spec.network == Network::Missing && spec.ports().is_empty();
    let is_direct = is_offline || ground.reaches((address, ANY_PORT).into(), host).await;
    is_direct.then_some(Way::Direct(address))
}

/// The session's toolbox and the commands' toolbox in a machine, the same one unless that one cannot be executed; and those
/// that are copied in for it, with their permission bits.
fn toolboxes(version: Version, noexec: bool) -> ([&'static str; 2], Vec<(&'static str, u32)>) {
    match (version.copies_modes(), noexec) {
        (true, false) => ([TOOLBOX; 2], vec![(TOOLBOX, 0o755)]),
        (true, true) => ([SESSION, TOOLBOX], vec![(SESSION, 0o755), (TOOLBOX, 0o644)]),
        // What such a release copies cannot be executed. The toolbox's own image has one that can.
        (false, false) => ([IN_IMAGE; 2], Vec::new()),
        (false, true) => ([IN_IMAGE, TOOLBOX], vec![(TOOLBOX, 0o644)]),
    }
}

/// Copies the toolbox in, and opens a session. The path of the commands' toolbox, the session, and its `machine exec`.
async fn enter(
    ground: &dyn Ground,
    spec: &Spec,
    machine: &str,
) -> Result<(&'static str, Session, super::smolvm::run::End), LaunchFailed> {
    let Tools { smolvm, hatch, .. } = ground.tools();
    let path = hatch.here.join("toolbox");
    let written = std::fs::write(&path, crate::toolbox::bytes()?);
    written.map_err(|source| LaunchFailed::File { path, source })?;
    let from = hatch.there.join("toolbox");
    let ([session, toolbox], copied) = toolboxes(smolvm.version(), spec.holes.noexec);
    for (to, mode) in copied {
        smolvm.copy_in(machine, &from, to, mode).await?;
    }
    let Started { input, output, error, end } = smolvm.open(machine, &[session, "session"]).await?;
    let input = input.ok_or_else(|| {
        let source = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        LaunchFailed::File { path: session.into(), source }
    })?;
    match Session::open_nudging(output, input, HANDSHAKE).await {
        Ok(session) => {
            // Read all the time, or it would block whoever writes there.
            tokio::spawn(complaint(error));
            Ok((toolbox, session, end))
        }
        Err(source) => {
            let said = tokio::time::timeout(LAST_WORDS, complaint(error)).await.unwrap_or_default();
            let said = Untrusted::new(said.trim_ascii()).one_line(COMPLAINT.1);
            let said = if said.is_empty() { said } else { format!(", its command says: {said}") };
            Err(LaunchFailed::Session { said, source: Box::new(source) })
        }
    }
}

async fn complaint(mut error: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = (&mut error).take(COMPLAINT.0).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut error, &mut tokio::io::sink()).await;
    kept
}
