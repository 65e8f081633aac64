//! A running command.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use claude_bottle_protocol::session::{self as protocol, GRACE, Kind, MAX_PAYLOAD, WINDOW};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::command::{Command, Input};
use super::error::{BottleError, errno_text, said};
use super::lines::Lines;
use super::link::{Link, Opened};
use crate::report::text::Untrusted;

/// Output is acknowledged in portions of this many bytes.
const PORTION: usize = WINDOW / 4;
/// How long to wait for the end of a command that was killed, besides the time that the session gives to
/// whoever holds its streams.
const KILLED: Duration = Duration::from_secs(3);
/// `SIGKILL`.
const KILL: u8 = 9;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It could not be started.
    NotStarted {
        /// The errno of the failing system call.
        errno: i32,
        /// What failed, such as `exec /bin/true`.
        what: Untrusted,
    },
    /// Its time was over, and it was killed.
    TimedOut,
    /// The bottle's memory was used up, and the kernel killed it.
    OutOfMemory,
}

impl End {
    /// Whether it exited with code 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::NotStarted { errno, what } => {
                write!(f, "cannot {}: {}", what.as_str(), errno_text(*errno))
            }
            Self::TimedOut => f.write_str("timed out"),
            Self::OutOfMemory => {
                f.write_str("killed by the kernel, since the bottle's memory was used up")
            }
        }
    }
}

/// How a command ended, and how much of its output was thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// Bytes of standard output beyond the limit.
    pub stdout_cut: u64,
    /// Bytes of standard error beyond the limit.
    pub stderr_cut: u64,
}

impl From<protocol::Ended> for Ended {
    fn from(ended: protocol::Ended) -> Self {
        let protocol::Ended { end, stdout_cut, stderr_cut } = ended;
        let end = match end {
            protocol::End::Code(code) => End::Code(code),
            protocol::End::Signal(signal) => End::Signal(signal),
            protocol::End::NotStarted { errno, what } => {
                End::NotStarted { errno, what: said(what.as_bytes()) }
            }
        };
        Self { end, stdout_cut, stderr_cut }
    }
}

/// What a command wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// Standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub end: End,
    /// Bytes of standard output beyond the limit.
    pub stdout_cut: u64,
    /// Bytes of standard error beyond the limit.
    pub stderr_cut: u64,
}

/// Something that happened to a running command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It wrote this to standard output, or to its terminal.
    Stdout(Vec<u8>),
    /// It wrote this to standard error.
    Stderr(Vec<u8>),
    /// It has ended.
    Ended(Ended),
}

/// A running command. Dropping it kills the command, if it has not ended.
///
/// Its output waits in the bottle until it is asked for by [`Self::next`]: a command whose output nobody reads
/// blocks, as it would on a pipe.
pub struct Running {
    remote: Remote,
    events: mpsc::UnboundedReceiver<Event>,
    stdin: Option<Stdin>,
    /// Bytes of output that were handed over and not acknowledged.
    taken: usize,
    ended: Option<Ended>,
    limit: usize,
    deadline: Option<Instant>,
}

impl Running {
    pub(super) fn new(link: Arc<Link>, opened: Opened, command: Command) -> Self {
        let Opened { channel, events, window } = opened;
        let remote = Remote { link, channel };
        let mut stdin = Stdin { remote: remote.clone(), window };
        let stdin = match command.stdin {
            Input::Streamed => Some(stdin),
            Input::Bytes(bytes) => {
                if !bytes.is_empty() {
                    // Ends with the command, at the latest.
                    tokio::spawn(async move { stdin.write(&bytes).await });
                }
                None
            }
        };
        Self {
            remote,
            events,
            stdin,
            taken: 0,
            ended: None,
            limit: usize::try_from(command.output_limit).unwrap_or(usize::MAX),
            deadline: command.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        }
    }

    /// The command's standard input, if it is streamed; once.
    pub fn take_stdin(&mut self) -> Option<Stdin> {
        self.stdin.take()
    }

    /// A handle for signals and sizes.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Sends a signal to the command's process group: a number from 1 to 31, as Linux counts them.
    pub fn signal(&self, signal: u8) {
        self.remote.signal(signal);
    }

    /// Waits for the next thing that happens. After [`Event::Ended`], it is that again. Nothing is lost when the
    /// future is dropped.
    pub async fn next(&mut self) -> Result<Event, BottleError> {
        if let Some(ended) = &self.ended {
            return Ok(Event::Ended(ended.clone()));
        }
        let event = self.events.recv().await;
        let event = event.ok_or_else(|| self.remote.link.why_ended())?;
        match &event {
            Event::Stdout(bytes) | Event::Stderr(bytes) => {
                self.taken += bytes.len();
                if self.taken >= PORTION {
                    self.remote.link.taken(self.remote.channel, self.taken);
                    self.taken = 0;
                }
            }
            Event::Ended(ended) => self.ended = Some(ended.clone()),
        }
        Ok(event)
    }

    /// Waits for the end and collects what the command writes until then. After its time-out it is killed; what it
    /// had written is kept.
    pub async fn output(mut self) -> Result<Output, BottleError> {
        // Nobody is going to write to it.
        self.stdin = None;
        let mut killed = false;
        let (mut stdout, mut stderr) = (Collected::default(), Collected::default());
        let end = loop {
            let event = match self.deadline {
                Some(deadline) => timeout_at(deadline, self.next()).await,
                None => Ok(self.next().await),
            };
            match event {
                Ok(Ok(Event::Stdout(bytes))) => stdout.push(&bytes, self.limit),
                Ok(Ok(Event::Stderr(bytes))) => stderr.push(&bytes, self.limit),
                Ok(Ok(Event::Ended(ended))) => {
                    stdout.cut = stdout.cut.saturating_add(ended.stdout_cut);
                    stderr.cut = stderr.cut.saturating_add(ended.stderr_cut);
                    break if killed { End::TimedOut } else { ended.end };
                }
                Ok(Err(error)) => return Err(error),
                // Not even that ended it: it is abandoned.
                Err(_) if killed => break End::TimedOut,
                Err(_) => {
                    killed = true;
                    self.signal(KILL);
                    self.deadline = Some(Instant::now() + GRACE + KILLED);
                }
            }
        };
        Ok(Output {
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            end,
            stdout_cut: stdout.cut,
            stderr_cut: stderr.cut,
        })
    }

    /// Reads its standard output by lines.
    pub fn lines(self) -> Lines {
        Lines::new(self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.remote.link.abandon(self.remote.channel);
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// One collected stream. The session keeps to the limit by itself; here nobody relies on it.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    cut: u64,
}

impl Collected {
    fn push(&mut self, bytes: &[u8], limit: usize) {
        let kept = bytes.len().min(limit.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.cut = self.cut.saturating_add((bytes.len() - kept) as u64);
    }
}

/// Signals and sizes for a running command, from anywhere. For one that has ended they are lost.
#[derive(Clone)]
pub struct Remote {
    link: Arc<Link>,
    channel: u32,
}

impl Remote {
    /// Sends a signal to the command's process group: a number from 1 to 31, as Linux counts them.
    pub fn signal(&self, signal: u8) {
        self.link.control(Kind::Signal, self.channel, &[signal]);
    }

    /// Sets the size of its terminal.
    pub fn resize(&self, rows: u16, columns: u16) {
        let [r0, r1] = rows.to_le_bytes();
        let [c0, c1] = columns.to_le_bytes();
        self.link.control(Kind::Resize, self.channel, &[r0, r1, c0, c1]);
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// A running command's standard input. Dropping it ends the input.
#[derive(Debug)]
pub struct Stdin {
    remote: Remote,
    window: Arc<Semaphore>,
}

impl Stdin {
    /// Writes all of `bytes`. Waits while the command is more than [`WINDOW`] bytes behind; fails once it has ended.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), BottleError> {
        let Remote { link, channel } = &self.remote;
        for chunk in bytes.chunks(MAX_PAYLOAD) {
            let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let permit = self.window.acquire_many(count).await;
            // They come back when the session says so.
            permit.map_err(|_| link.why_no_input())?.forget();
            link.input(*channel, chunk).await?;
        }
        Ok(())
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        self.remote.link.input_end(self.remote.channel);
    }
}
