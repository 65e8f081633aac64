//! The running command, and the session in it.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::helper::Process;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Child;

use super::command::{Entry, SandboxCommand};
use super::greeting;
use crate::backend::namespace::helper::{Helper, Started};
use crate::backend::namespace::world::foreign::Foreign;
use crate::bottle::session::Session;
use crate::bottle::{self, Bottle, BottleError, Command};
use crate::probe::attempt::fresh_nonce;
use crate::report::text::Untrusted;
use crate::teardown::TeardownError;

/// How much of what a command prints is quoted, in columns.
const QUOTED: usize = 600;
/// How much of its standard error is kept, in bytes.
const KEPT: usize = 16 * 1024;
/// How long a session may take to end by itself, and a command after it.
const ENDING: Duration = Duration::from_secs(2);
/// How long the last words of a command are waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Why there is no toolbox in a sandbox.
#[derive(Debug, Error)]
pub(super) enum SandboxError {
    /// The command itself does not start.
    #[error("cannot run {program}")]
    Start {
        /// Its first word.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The toolbox never answered.
    #[error("the toolbox did not answer: {why}{printed}")]
    NoAnswer {
        /// What happened instead.
        why: String,
        /// What the command printed, made harmless.
        printed: String,
    },
    /// What answered is not our session.
    #[error(transparent)]
    Session(#[from] BottleError),
}

/// A sandbox with a session in it.
pub(super) struct Sandbox {
    session: Session,
    command: Running,
}

/// The command that the sandbox is made by.
enum Running {
    /// On this machine.
    Here { child: Box<tokio::sync::Mutex<Child>>, group: Option<Pid> },
    /// In the lab, whose end is its own.
    InLab,
}

impl Sandbox {
    /// Runs `command`, brings the toolbox in, and waits until it answers.
    pub(super) async fn open(
        command: &SandboxCommand,
        folder: &Path,
        toolbox: &[u8],
        patience: Duration,
    ) -> Result<Self, SandboxError> {
        let (words, entry) = command.with(folder, toolbox.len(), &fresh_nonce());
        let mut start = tokio::process::Command::new(&words[0]);
        start.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: what a person types reaches this program, which ends the command itself.
        start.stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = start
            .spawn()
            .map_err(|source| SandboxError::Start { program: words[0].clone(), source })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let group = Group(id);
        let (Some(input), Some(output), Some(error)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            let why = "it has no standard streams".into();
            return Err(SandboxError::NoAnswer { why, printed: String::new() });
        };
        let ended = async { child.wait().await.ok().map(|status| status.to_string()) };
        let session = meet((entry, toolbox), (output, input, error), ended, patience).await?;
        // From here on the sandbox ends the group.
        let (child, group) = (Box::new(tokio::sync::Mutex::new(child)), group.release());
        Ok(Self { session, command: Running::Here { child, group } })
    }

    /// As [`Sandbox::open`], for a command that runs on the lab's host: it ends with the lab.
    pub(super) async fn open_in(
        helper: &Helper,
        command: &SandboxCommand,
        folder: &Path,
        toolbox: &[u8],
        patience: Duration,
    ) -> Result<Self, SandboxError> {
        let (words, entry) = command.with(folder, toolbox.len(), &fresh_nonce());
        let program = words[0].clone();
        let started = helper.start(Process::Command(Foreign::command(words))).await;
        let Started { id, stdio, stderr } = started
            .map_err(|error| SandboxError::Start { program, source: io::Error::other(error) })?;
        let (output, input) = stdio.into_split();
        let ended = async { helper.exit_of(id).await.ok().map(|code| format!("exit code {code}")) };
        let session = meet((entry, toolbox), (output, input, stderr), ended, patience).await?;
        Ok(Self { session, command: Running::InLab })
    }

    /// Ends the session, then the command and whatever is in its process group: asked first, so that one that has made
    /// something elsewhere, as a container engine's client has, can have it removed.
    pub(super) async fn end(&self) -> io::Result<()> {
        self.session.close(ENDING).await;
        let Running::Here { child, group } = &self.command else { return Ok(()) };
        let mut child = child.lock().await;
        let mut ended = tokio::time::timeout(ENDING, child.wait()).await;
        if ended.is_err()
            && let Some(group) = group
        {
            // It may be gone already.
            let _ = killpg(*group, Signal::SIGTERM);
            ended = tokio::time::timeout(ENDING, child.wait()).await;
        }
        drop(Group(*group));
        match ended {
            Ok(ended) => ended.map(drop),
            Err(_) => child.kill().await,
        }
    }
}

/// Brings the toolbox in over a command's streams, and waits until it answers. `ended` waits for the command's end, and tells how that
/// was.
async fn meet(
    (entry, toolbox): (Entry, &[u8]),
    (mut output, mut input, error): (
        impl AsyncRead + Send + Unpin + 'static,
        impl AsyncWrite + Send + Unpin + 'static,
        impl AsyncRead + Send + Unpin + 'static,
    ),
    ended: impl Future<Output = Option<String>>,
    patience: Duration,
) -> Result<Session, SandboxError> {
    let complaint = Complaint::listen(error);
    let mut seen = Vec::new();
    let meeting = async {
        let sending = async {
            if entry == Entry::Streamed {
                // A shell that does not take it shows as a toolbox that does not answer.
                let _ = input.write_all(toolbox).await;
                let _ = input.flush().await;
            }
        };
        let (found, ()) = tokio::join!(greeting::find(&mut output, &mut seen), sending);
        found
    };
    let why = match tokio::time::timeout(patience, meeting).await {
        Ok(Ok(greeted)) => {
            let output = io::Cursor::new(greeted).chain(output);
            return Ok(Session::open(output, input, patience).await?);
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            match tokio::time::timeout(LAST_WORDS, ended).await {
                Ok(Some(how)) => format!("the command ended ({how})"),
                _ => "the command closed its output".to_owned(),
            }
        }
        Ok(Err(error)) => format!("the command's output: {error}"),
        Err(_) => format!("nothing came for {} s", patience.as_secs_f32()),
    };
    let printed = printed(&seen, &complaint.end().await);
    Err(SandboxError::NoAnswer { why, printed })
}

/// A process group, killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn release(mut self) -> Option<Pid> {
        self.0.take()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone already.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let Running::Here { child, group } = &mut self.command else { return };
        // Not once the leader has been waited for: its number may be somebody else's by then.
        if child.get_mut().id().is_some() {
            drop(Group(*group));
        }
    }
}

/// What a command writes to its standard error: all of it is read, so that the command never blocks on it, and the beginning
/// is kept.
struct Complaint {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Complaint {
    fn listen(mut error: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeping = Arc::clone(&kept);
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = error.read(&mut buffer).await {
                let mut kept = keeping.lock().unwrap_or_else(PoisonError::into_inner);
                let room = KEPT.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..length.min(room)]);
            }
        });
        Self { kept, reading }
    }

    /// What there is of it once the command has had its last words.
    async fn end(self) -> Vec<u8> {
        let _ = tokio::time::timeout(LAST_WORDS, self.reading).await;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn printed(output: &[u8], error: &[u8]) -> String {
    let quote = |what: &str, bytes: &[u8]| {
        let text = Untrusted::new(bytes.trim_ascii()).one_line(QUOTED);
        if text.is_empty() {
            String::new()
        } else {
            format!("; its standard {what} begins with “{text}”")
        }
    };
    quote("output", output) + &quote("error", error)
}

#[async_trait]
impl Bottle for Sandbox {
    fn name(&self) -> &str {
        super::NAME
    }

    fn toolbox(&self) -> &str {
        self.session.toolbox()
    }

    async fn start(&self, command: Command) -> Result<bottle::Running, BottleError> {
        self.session.start(command)
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        let ended = self.end().await;
        ended.map_err(|error| TeardownError(vec![("the command".into(), error.into())]))
    }
}
