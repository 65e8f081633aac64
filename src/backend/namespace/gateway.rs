//! The gateway beside a bottle: a process whose listening socket is of the bundle's net namespace.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claude_bottle_protocol::gateway::Config;
use claude_bottle_protocol::helper::Gateway as Wanted;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::helper::{HelperError, Started, Talk, complaint};
use super::launcher::{self, StartError};
use super::{LaunchError, failed};
use crate::bundle::gateway::refused;
use crate::bundle::refusals::Refusals;
use crate::sys;

/// How long it may take until it listens. It takes a few milliseconds.
const READY: Duration = Duration::from_secs(10);
/// The longest line of its log that is read, in bytes: names are shorter.
const LONGEST_LINE: u64 = 4096;

/// Why there is no gateway.
#[derive(Debug, Error)]
pub(super) enum GatewayError {
    /// The helper cannot start it.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// Its program cannot be placed.
    #[error(transparent)]
    Program(#[from] StartError),
    /// Its configuration cannot be handed over.
    #[error("cannot hand over its configuration")]
    Config(#[source] io::Error),
    /// It ended, or did not listen in time.
    #[error("it does not listen{}", if .0.is_empty() { String::new() } else { format!(": {}", .0) })]
    Deaf(String),
}

/// A gateway that has been asked for.
pub(super) struct Asked(Started);

/// Asks for one. What the helper answers to that is for the caller to wait for.
pub(super) async fn ask(
    talk: &mut Talk<'_>,
    wanted: Wanted,
    config: &Config,
) -> Result<Asked, GatewayError> {
    let program = launcher::gateway()?;
    let config = in_memory(config).map_err(GatewayError::Config)?;
    Ok(Asked(talk.start_gateway(wanted, [program, config]).await?))
}

/// Waits for a gateway that has been asked for.
pub(super) async fn listening(
    asked: Result<Asked, GatewayError>,
    talk: &mut Talk<'_>,
) -> Result<Gateway, LaunchError> {
    let step = "the gateway does not start";
    let asked = asked.map_err(failed(step))?;
    talk.started().await.map_err(failed(step))?;
    asked.listening().await.map_err(failed(step))
}

/// Not in the message, which has a longest length.
fn in_memory(config: &Config) -> io::Result<OwnedFd> {
    let mut file = sys::memory("gateway.json")?;
    file.write_all(&serde_json::to_vec(config)?)?;
    Ok(file.into())
}

/// A gateway that listens. It ends when this goes.
pub(super) struct Gateway {
    refusals: Arc<Mutex<Refusals>>,
    reader: tokio::sync::Mutex<JoinHandle<()>>,
    _input: OwnedWriteHalf,
    _stderr: UnixStream,
}

impl Asked {
    /// Waits until it listens.
    async fn listening(self) -> Result<Gateway, GatewayError> {
        let Started { stdio, stderr, .. } = self.0;
        let (output, input) = stdio.into_split();
        let mut output = BufReader::new(output);
        let first = timeout(READY, line(&mut output)).await.unwrap_or_default();
        let listens = first.starts_with(b"listening on ");
        if !listens {
            drop(input);
            drop(output);
            let said = timeout(READY, complaint(stderr)).await.unwrap_or_default();
            return Err(GatewayError::Deaf(said));
        }
        let refusals = Arc::new(Mutex::new(Refusals::default()));
        let keeps = Arc::clone(&refusals);
        // It waits for whoever reads its log.
        let reader = tokio::spawn(async move {
            loop {
                let line = line(&mut output).await;
                if line.is_empty() {
                    return;
                }
                if let Some(refusal) = refused(&line) {
                    keeps.lock().unwrap_or_else(PoisonError::into_inner).add(refusal);
                }
            }
        });
        let reader = tokio::sync::Mutex::new(reader);
        Ok(Gateway { refusals, reader, _input: input, _stderr: stderr })
    }
}

/// One line, or the first part of a long one; empty at the end.
async fn line(output: &mut BufReader<OwnedReadHalf>) -> Vec<u8> {
    let mut line = Vec::new();
    // What breaks off has ended.
    let _ = output.take(LONGEST_LINE).read_until(b'\n', &mut line).await;
    line
}

impl Gateway {
    /// Waits until all that it has told is read: it has been ended.
    pub(super) async fn ended(&self) {
        let _ = timeout(READY, &mut *self.reader.lock().await).await;
    }

    /// What it has refused so far.
    pub(super) fn refusals(&self) -> Vec<String> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).lines()
    }
}
