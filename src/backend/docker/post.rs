//! A session of the lab's at one place: it runs the witness and the probers of controls there, and looks around. Where this
//! process may enter the place's net namespace, or make it, it is a process of this machine, else a container.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use claude_bottle_protocol::prober::{Batch, Fuse};
use claude_bottle_protocol::witness::{Opened, Wanted};
use ipnet::Ipv4Net;
use thiserror::Error;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex,
};
use tokio::net::UnixStream;

use super::Engine;
use super::error::DockerError;
use super::launch::{Container, create, greet, start};
use super::plan::{IN_IMAGE, Plan, container};
use crate::backend::namespace::launcher::{self, Started};
use crate::bottle::running::Stdin;
use crate::bottle::session::Session;
use crate::bottle::{BottleError, Command, Event, Running};
use crate::lab::{Answers, Observation, Witness, batch_line, converse};
use crate::probe::attempt::fresh_nonce;

/// How long a witness may take to open its sockets, and a look may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much may wait between a witness and whoever reads it.
const WAITING: usize = 64 * 1024;

/// Why a post does not stand, or does not do its work.
#[derive(Debug, Error)]
pub(in crate::backend) enum PostError {
    /// The engine does not do its part.
    #[error(transparent)]
    Engine(Box<DockerError>),
    /// Its session does not.
    #[error("the lab's own session does not do its work")]
    Session(#[from] BottleError),
    /// There is no bottle to stand around.
    #[error("there is no bottle")]
    Bottle,
    /// The toolbox cannot be started on this machine.
    #[error("cannot start the toolbox in a net namespace")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What it runs does not answer as it should.
    #[error("the lab's {0} says what it never says")]
    Garbled(&'static str),
}

impl From<DockerError> for PostError {
    fn from(error: DockerError) -> Self {
        Self::Engine(Box::new(error))
    }
}

/// A running post.
pub(in crate::backend) struct Post {
    session: Session,
    namespace: u64,
    /// What is to be killed, if it does not end with its session.
    process: Option<Started>,
}

/// The container of a post: the toolbox's session in the net namespace that `mode` says. It is what it is by its capabilities in
/// somebody else's net namespace, and has no more than these.
pub(super) fn body(plan: &Plan, mode: String, capabilities: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: plan.agent.image.clone(),
        // To have the capabilities, and not only be allowed to.
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec![IN_IMAGE.to_owned()]),
        cmd: Some(vec!["session".to_owned()]),
        labels: plan.agent.labels.clone(),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some(mode),
            cap_add: Some(capabilities.iter().map(|&name| name.to_owned()).collect()),
            pids_limit: Some(256),
            log_config: Some(container::log("none", &[])),
            ..container::walls()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The same in the net namespace of a container.
pub(super) fn joined(
    plan: &Plan,
    container: &Container,
    capabilities: &[&str],
) -> ContainerCreateBody {
    body(plan, format!("container:{}", container.id), capabilities)
}

/// A place on a bridge of the engine's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    /// The address there.
    pub(super) address: Ipv4Addr,
    /// The subnet.
    pub(super) subnet: Ipv4Net,
    /// The bridge's own address.
    pub(super) gateway: Ipv4Addr,
}

impl Post {
    /// Creates and starts the container, and asks in which net namespace it is.
    pub(super) async fn start(
        engine: &Engine,
        name: String,
        body: ContainerCreateBody,
    ) -> Result<Self, PostError> {
        let id = create(engine, &name, body).await?;
        let attached = engine.attach(&id).await?;
        start(engine, &id).await?;
        Self::of(greet(attached).await?, None).await
    }

    /// In the net namespace of a container, without a capability there: a process of this machine where that can enter it, else a
    /// container called `name`.
    pub(in crate::backend) async fn in_container(
        engine: &Engine,
        plan: &Plan,
        container: &Container,
        name: String,
    ) -> Result<Self, PostError> {
        match engine.entered(container) {
            Some(net) => Self::within(net).await,
            None => Self::start(engine, name, joined(plan, container, &[])).await,
        }
    }

    /// The same as a process of this machine, in its own net namespace.
    pub(super) async fn here() -> Result<Self, PostError> {
        Self::process(Vec::new(), None).await
    }

    /// The same in a net namespace that it enters.
    pub(super) async fn within(net: File) -> Result<Self, PostError> {
        // As whoever is started sees this process' descriptor, which stays open until that one has greeted.
        let held = format!("/proc/{}/fd/{}", std::process::id(), net.as_raw_fd());
        Self::process(vec!["within".to_owned(), held], Some(net)).await
    }

    /// The same in a net namespace that it makes, with a wire to a bridge of this machine: what a container would have there.
    pub(super) async fn on_bridge(bridge: String, seat: Seat) -> Result<Self, PostError> {
        let Seat { address, subnet, gateway } = seat;
        let address = [address.to_string(), subnet.prefix_len().to_string(), gateway.to_string()];
        let arguments = ["on-bridge".to_owned(), bridge].into_iter().chain(address);
        Self::process(arguments.collect(), None).await
    }

    /// The toolbox's session behind these arguments; `net` is held until it has greeted.
    async fn process(arguments: Vec<String>, net: Option<File>) -> Result<Self, PostError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| PostError::Start(error);
        let (mine, theirs) = StdStream::pair().map_err(|error| failed(error.into()))?;
        let process = launcher::start(move |command| {
            command.args(&arguments).args(["session", "--toolbox", "/proc/self/exe"]).env_clear();
            let stream = || theirs.try_clone().map(OwnedFd::from);
            command.stdin(stream()?).stdout(stream()?).stderr(Stdio::null());
            Ok(())
        });
        let process = process.await.map_err(|error| failed(error.into()))?;
        let connected = mine.set_nonblocking(true).and_then(|()| UnixStream::from_std(mine));
        let (output, input) = connected.map_err(|error| failed(error.into()))?.into_split();
        let session = Session::open(output, input, PATIENCE).await?;
        drop(net);
        Self::of(session, Some(process)).await
    }

    async fn of(session: Session, process: Option<Started>) -> Result<Self, PostError> {
        let mut post = Self { session, namespace: 0, process };
        let nothing = Batch {
            token: fresh_nonce(),
            fuse: Fuse::Namespaces(Vec::new()),
            attempts: Vec::new(),
        };
        let answers = post.ask(&nothing).await?;
        post.namespace = answers.netns.ok_or(PostError::Garbled("prober"))?;
        Ok(post)
    }

    /// The inode number of its net namespace, as whoever is in it sees it.
    pub(in crate::backend) fn namespace(&self) -> u64 {
        self.namespace
    }

    /// Ends what runs on this machine; a container is removed by the engine.
    pub(in crate::backend) async fn end(&self) {
        if self.process.is_some() {
            self.session.close(PATIENCE).await;
        }
    }

    /// Runs a batch here.
    pub(in crate::backend) async fn ask(&self, batch: &Batch) -> Result<Answers, BottleError> {
        let mut running = self.run("prober")?;
        // A prober reads its batch, and then waits for the end of its input where something holds.
        let mut input = running.take_stdin();
        if let Some(input) = &mut input {
            input.write(&batch_line(batch)).await?;
        }
        drop(input);
        Ok(converse(batch, &mut running.lines(), |_| {}).await)
    }

    /// Opens listeners here, with a witness behind them.
    pub(in crate::backend) async fn witness(
        &self,
        wanted: &Wanted,
    ) -> Result<(Witness, Opened), PostError> {
        let mut running = self.run("witness")?;
        let mut input = running.take_stdin().ok_or(PostError::Garbled("witness"))?;
        let mut line = serde_json::to_vec(wanted).map_err(|_| PostError::Garbled("witness"))?;
        line.push(b'\n');
        input.write(&line).await?;
        let mut events = BufReader::new(output_of(running));
        let mut line = String::new();
        let opened = tokio::time::timeout(PATIENCE, events.read_line(&mut line)).await;
        let opened =
            opened.ok().and_then(Result::ok).and_then(|_| serde_json::from_str(&line).ok());
        let opened = opened.ok_or(PostError::Garbled("witness"))?;
        Ok((Witness::new(events, input_of(input)), opened))
    }

    /// What there is to see of the net namespace.
    pub(in crate::backend) async fn look(&self) -> Result<Observation, PostError> {
        let looking = Command::new(self.session.toolbox()).arg("look").timeout(PATIENCE);
        let seen = self.session.start(looking)?.output().await?;
        let files: BTreeMap<String, String> =
            serde_json::from_slice(&seen.stdout).map_err(|_| PostError::Garbled("look"))?;
        Ok(Observation::parse(&files))
    }

    fn run(&self, role: &str) -> Result<Running, BottleError> {
        self.session.start(Command::new(self.session.toolbox()).arg(role).stream_stdin())
    }
}

/// What a command writes, as a byte stream. The command goes with whoever reads it.
fn output_of(mut running: Running) -> DuplexStream {
    let (output, mut into) = duplex(WAITING);
    tokio::spawn(async move {
        while let Ok(event) = running.next().await {
            let written = match event {
                Event::Stdout(bytes) => into.write_all(&bytes).await,
                Event::Stderr(_) => Ok(()),
                Event::Ended(_) => return,
            };
            if written.is_err() {
                return;
            }
        }
    });
    output
}

/// What a command reads, as a byte stream.
fn input_of(mut stdin: Stdin) -> DuplexStream {
    let (input, mut from) = duplex(WAITING);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if stdin.write(&buffer[..length]).await.is_err() {
                return;
            }
        }
    });
    input
}
