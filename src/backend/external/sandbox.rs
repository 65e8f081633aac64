//! The running command, and the session in it.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr};

use super::command::{Entry, SandboxCommand};
use super::greeting;
use crate::bottle::session::Session;
use crate::bottle::{Bottle, BottleError, Command, Running};
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
    child: tokio::sync::Mutex<Child>,
    group: Option<Pid>,
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
        let (Some(mut input), Some(mut output), Some(error)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            let why = "it has no standard streams".into();
            return Err(SandboxError::NoAnswer { why, printed: String::new() });
        };
        let complaint = Arc::new(Mutex::new(Vec::new()));
        let reading = tokio::spawn(keep(error, Arc::clone(&complaint)));

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
                let session = Session::open(output, input, patience).await?;
                // From here on the sandbox ends the group.
                let group = group.release();
                return Ok(Self { session, child: tokio::sync::Mutex::new(child), group });
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                match tokio::time::timeout(LAST_WORDS, child.wait()).await {
                    Ok(Ok(status)) => format!("the command ended ({status})"),
                    _ => "the command closed its output".to_owned(),
                }
            }
            Ok(Err(error)) => format!("the command's output: {error}"),
            Err(_) => format!("nothing came for {} s", patience.as_secs()),
        };
        drop(group);
        let _ = tokio::time::timeout(LAST_WORDS, reading).await;
        let complaint = complaint.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Err(SandboxError::NoAnswer { why, printed: printed(&seen, &complaint) })
    }

    /// Ends the session, then the command and whatever is in its process group.
    pub(super) async fn end(&self) -> io::Result<()> {
        self.session.close(ENDING).await;
        let mut child = self.child.lock().await;
        let ended = tokio::time::timeout(ENDING, child.wait()).await;
        drop(Group(self.group));
        match ended {
            Ok(ended) => ended.map(drop),
            Err(_) => child.kill().await,
        }
    }
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
        // Not once the leader has been waited for: its number may be somebody else's by then.
        if self.child.get_mut().id().is_some() {
            drop(Group(self.group));
        }
    }
}

/// Reads all of it, so that the command never blocks on it, and keeps the beginning.
async fn keep(mut error: ChildStderr, kept: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = error.read(&mut buffer).await {
        let mut kept = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..length.min(room)]);
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

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        self.session.start(command)
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        let ended = self.end().await;
        ended.map_err(|error| TeardownError(vec![("the command".into(), error.into())]))
    }
}
