//! A container of the lab's at one place: it runs the witness and the probers of controls there, and looks around.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use claude_bottle_protocol::prober::{Batch, Fuse};
use claude_bottle_protocol::witness::{Opened, Wanted};
use thiserror::Error;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex,
};

use super::sites::{BOTTLE, BUNDLE, HOST, NEIGHBOUR, SEGMENT};
use crate::backend::docker::Engine;
use crate::backend::docker::error::DockerError;
use crate::backend::docker::launch::{create, greet, start};
use crate::backend::docker::plan::{self, IN_IMAGE, Plan};
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
pub(super) enum PostError {
    /// The engine does not do its part.
    #[error(transparent)]
    Engine(Box<DockerError>),
    /// Its session does not.
    #[error("the lab's own container does not do its work")]
    Session(#[from] BottleError),
    /// What it runs does not answer as it should.
    #[error("the lab's {0} says what it never says")]
    Garbled(&'static str),
}

/// A running post.
pub(super) struct Post {
    session: Session,
    namespace: u64,
}

/// The container at `place`. It is what it is by its capabilities in somebody else's net namespace, and has no more than its
/// place takes.
pub(super) fn body(
    plan: &Plan,
    beside: &Plan,
    place: &str,
    agent: &str,
    bundle: &str,
) -> ContainerCreateBody {
    let (mode, capabilities): (_, &[&str]) = match place {
        // Frames and echoes are seen and sent by raw sockets, a packet filter is read by who may change it.
        BOTTLE => (format!("container:{agent}"), &["NET_RAW", "NET_ADMIN"]),
        BUNDLE => (format!("container:{bundle}"), &["NET_RAW"]),
        SEGMENT => (plan.name.clone(), &["NET_RAW"]),
        HOST => ("host".to_owned(), &["NET_BIND_SERVICE"]),
        _ => (beside.name.clone(), &[]),
    };
    ContainerCreateBody {
        image: beside.agent.image.clone(),
        // To have the capabilities, and not only be allowed to.
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec![IN_IMAGE.to_owned()]),
        cmd: Some(vec!["session".to_owned()]),
        labels: beside.agent.labels.clone(),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some(mode),
            cap_add: Some(capabilities.iter().map(|&name| name.to_owned()).collect()),
            pids_limit: Some(256),
            log_config: Some(plan::log("none", &[])),
            ..plan::walls()
        }),
        networking_config: match place {
            SEGMENT => plan.seat_beside(),
            NEIGHBOUR => beside.agent.networking_config.clone(),
            _ => None,
        },
        ..ContainerCreateBody::default()
    }
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
        let mut post = Self { session: greet(attached).await?, namespace: 0 };
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
    pub(super) fn namespace(&self) -> u64 {
        self.namespace
    }

    /// Runs a batch here.
    pub(super) async fn ask(&self, batch: &Batch) -> Result<Answers, BottleError> {
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
    pub(super) async fn witness(&self, wanted: &Wanted) -> Result<(Witness, Opened), PostError> {
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
    pub(super) async fn look(&self) -> Result<Observation, PostError> {
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
