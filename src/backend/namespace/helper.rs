//! The launcher's side of the namespace helper: requests, and the processes that it starts.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claude_bottle_protocol::helper::{Gateway, Lab, MAX_MESSAGE, Process, Reply, Request};
use claude_bottle_protocol::prober::SocketFile;
use nix::sys::socket::{ControlMessage, Shutdown, sendmsg, shutdown};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{UnixDatagram, UnixStream};
use tokio::sync::{Mutex, MutexGuard, mpsc, watch};

use super::launcher::{self, StartError};
use crate::sys;

/// How long the helper may take for one request. A whole lab takes about 10 ms; but it takes the kernel's one lock on all network
/// configuration, which others hold for seconds while many net namespaces are taken down.
const ANSWER: Duration = Duration::from_secs(40);
/// How long the helper may take to end before it is killed. It takes a few milliseconds.
const ENDING: Duration = Duration::from_secs(5);
/// How much of a process' standard error is kept, in bytes.
const COMPLAINT: u64 = 16 * 1024;

/// Why the helper could not do what it was asked.
#[derive(Debug, Error)]
pub(in crate::backend) enum HelperError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A system call failed in there.
    #[error("cannot {what}")]
    Failed {
        /// What was being done.
        what: String,
        /// Why, if a system call says so.
        #[source]
        source: Option<io::Error>,
    },
    /// A resolver that it has started does not listen.
    #[error("the resolver does not listen{}", if .said.is_empty() { String::new() } else { format!(": {said}") })]
    Deaf {
        /// What it says instead.
        said: String,
        /// Why.
        source: io::Error,
    },
    /// It is gone.
    #[error("the namespace helper died")]
    Died,
    /// It did not answer.
    #[error("the namespace helper did not answer within {} s", ANSWER.as_secs())]
    Stuck,
    /// Talking to it failed.
    #[error("cannot talk to the namespace helper")]
    Talk(#[from] io::Error),
}

/// A running helper. Dropping it ends everything that it made.
pub(in crate::backend) struct Helper {
    control: Arc<UnixDatagram>,
    replies: Mutex<mpsc::UnboundedReceiver<Reply>>,
    exits: watch::Receiver<BTreeMap<u32, i32>>,
    /// Ends when nobody is left that could answer. Who waits for that takes it.
    reader: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
    child: std::sync::Mutex<Option<launcher::Started>>,
    next: AtomicU32,
}

/// A process that the helper started, and its standard streams.
pub(in crate::backend) struct Started {
    /// Its number.
    pub(in crate::backend) id: u32,
    /// Standard input and output.
    pub(in crate::backend) stdio: UnixStream,
    /// Standard error.
    pub(in crate::backend) stderr: UnixStream,
}

/// What the helper tells of a lab that stands.
pub(in crate::backend) struct Built {
    /// The inode number of each net namespace.
    pub(in crate::backend) inodes: BTreeMap<String, u64>,
    /// Each listener's address.
    pub(in crate::backend) listening: BTreeMap<u32, SocketAddr>,
    /// Which file each Unix socket with a path is.
    pub(in crate::backend) files: BTreeMap<u32, SocketFile>,
    /// The cookies of the net namespaces.
    pub(in crate::backend) cookies: Vec<u64>,
}

impl Helper {
    /// Starts a helper. What it says first is whether it is ready: see [`Talk::ready`].
    pub(in crate::backend) async fn launch() -> Result<Self, HelperError> {
        Self::launch_with(Vec::new()).await
    }

    /// Starts one that is the host's root and may start programs of the host's. In the end it removes the control group
    /// `cgroup`, which these are to use.
    pub(in crate::backend) async fn launch_privileged(cgroup: &str) -> Result<Self, HelperError> {
        Self::launch_with(vec!["privileged".into(), cgroup.into()]).await
    }

    async fn launch_with(more: Vec<String>) -> Result<Self, HelperError> {
        let (mine, theirs) = sys::messages()?;
        let own = std::process::id().to_string();
        let child = launcher::start(move |command| {
            let control = Stdio::from(theirs.try_clone()?);
            command.args(["helper", &own]).args(&more).stdin(control).stdout(Stdio::null());
            Ok(())
        })
        .await?;
        // A datagram socket by type; what matters here, whole messages and non-blocking calls, is the same.
        let mine = std::os::unix::net::UnixDatagram::from(mine);
        mine.set_nonblocking(true)?;
        let control = Arc::new(UnixDatagram::from_std(mine)?);
        let (reply, replies) = mpsc::unbounded_channel();
        let (exit, exits) = watch::channel(BTreeMap::new());
        let reader = tokio::spawn(read(Arc::clone(&control), reply, exit));
        Ok(Self {
            control,
            replies: Mutex::new(replies),
            exits,
            reader: std::sync::Mutex::new(Some(reader)),
            child: std::sync::Mutex::new(Some(child)),
            next: AtomicU32::new(0),
        })
    }

    /// Asks several things in a row, without waiting for each answer before the next: that would cost a switch
    /// between processes each time. Whoever else asks waits until this is over.
    pub(in crate::backend) async fn talk(&self) -> Talk<'_> {
        Talk { helper: self, replies: self.replies.lock().await }
    }

    /// Starts a process.
    pub(in crate::backend) async fn start(&self, process: Process) -> Result<Started, HelperError> {
        let mut talk = self.talk().await;
        let started = talk.start(process).await?;
        talk.started().await?;
        Ok(started)
    }

    /// Starts several processes, without waiting for one before the next is asked for.
    pub(in crate::backend) async fn start_all(
        &self,
        processes: impl Iterator<Item = Process>,
    ) -> Vec<Result<Started, HelperError>> {
        let mut talk = self.talk().await;
        let mut asked = Vec::new();
        for process in processes {
            asked.push(talk.start(process).await);
        }
        let mut started = Vec::new();
        for one in asked {
            started.push(match one {
                Ok(one) => talk.started().await.map(|()| one),
                Err(error) => Err(error),
            });
        }
        started
    }

    /// Reads a net namespace's state.
    pub(in crate::backend) async fn observe(
        &self,
        net: &str,
    ) -> Result<BTreeMap<String, String>, HelperError> {
        match self.ask(&Request::Observe { net: net.into() }, &[]).await? {
            Reply::Observed { files, .. } => Ok(files),
            other => Err(unexpected(&other)),
        }
    }

    /// The host's id of a process below this helper that is in the net namespace with this inode number.
    pub(in crate::backend) fn process_in(&self, inode: u64) -> Option<u32> {
        let child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut below = vec![child.as_ref()?.id()];
        while let Some(pid) = below.pop() {
            let net = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            if net.is_some_and(|net| net.as_os_str() == format!("net:[{inode}]").as_str()) {
                return Some(pid);
            }
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            below.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        None
    }

    /// The host's id of its outer process, while it runs.
    pub(in crate::backend) fn id(&self) -> Option<u32> {
        let child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        child.as_ref().map(launcher::Started::id)
    }

    /// Kills a process and waits until it is gone.
    pub(in crate::backend) async fn kill(&self, id: u32) -> Result<(), HelperError> {
        let signal = nix::sys::signal::Signal::SIGKILL as i32;
        // No answer is owed: the process may have ended by itself.
        self.send(&Request::Signal { id, signal }, &[]).await?;
        let exit = tokio::time::timeout(ANSWER, self.exit_of(id)).await;
        exit.map_err(|_| HelperError::Stuck)??;
        Ok(())
    }

    /// The exit code of a process that has ended, or 128 + the signal that killed it; waits for it.
    pub(in crate::backend) async fn exit_of(&self, id: u32) -> Result<i32, HelperError> {
        let mut exits = self.exits.clone();
        let exited = exits.wait_for(|exits| exits.contains_key(&id)).await;
        exited.map(|exits| exits[&id]).map_err(|_| HelperError::Died)
    }

    /// Ends the helper and with it everything that it made, and waits until no process is left. One that does not hear
    /// is killed.
    pub(in crate::backend) async fn end(&self) -> Result<(), HelperError> {
        // It reads the end of its input, whoever else still holds this end.
        let _ = shutdown(self.control.as_raw_fd(), Shutdown::Write);
        let reader = taken(&self.reader);
        if let Some(reader) = reader {
            // The outer process is the last one that could answer: it outlives all that it made.
            let _ = tokio::time::timeout(ENDING, reader).await;
        }
        // So that this is a matter of microseconds, and needs no thread to wait.
        drop(taken(&self.child));
        Ok(())
    }

    async fn ask(&self, request: &Request, streams: &[OwnedFd]) -> Result<Reply, HelperError> {
        let mut replies = self.replies.lock().await;
        self.send(request, streams).await?;
        self.reply(&mut replies).await
    }

    async fn reply(
        &self,
        replies: &mut mpsc::UnboundedReceiver<Reply>,
    ) -> Result<Reply, HelperError> {
        match tokio::time::timeout(ANSWER, replies.recv()).await {
            Err(_) => Err(HelperError::Stuck),
            Ok(None) => Err(HelperError::Died),
            Ok(Some(Reply::Failed { what, errno })) => {
                let source = (errno != 0).then(|| io::Error::from_raw_os_error(errno));
                Err(HelperError::Failed { what, source })
            }
            Ok(Some(reply)) => Ok(reply),
        }
    }

    async fn send(&self, request: &Request, streams: &[OwnedFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(request)?;
        let raw: Vec<_> = streams.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
        self.control
            .async_io(Interest::WRITABLE, || {
                let (slices, flags) = ([IoSlice::new(&bytes)], sys::NO_SIGNAL);
                let control = self.control.as_raw_fd();
                Ok(sendmsg::<()>(control, &slices, rights, flags, None).map(|_| ())?)
            })
            .await
    }
}

/// Requests and their answers, which come in the same order.
pub(in crate::backend) struct Talk<'h> {
    helper: &'h Helper,
    replies: MutexGuard<'h, mpsc::UnboundedReceiver<Reply>>,
}

impl Talk<'_> {
    /// Waits until the helper has its namespaces.
    pub(in crate::backend) async fn ready(&mut self) -> Result<(), HelperError> {
        match self.helper.reply(&mut self.replies).await? {
            Reply::Ready => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for the lab and its witness, whose streams are returned. `adopted` are the descriptors of its adopted
    /// listeners.
    pub(in crate::backend) async fn build(
        &mut self,
        lab: &Lab,
        adopted: Vec<OwnedFd>,
    ) -> Result<Started, HelperError> {
        let (started, streams) = streams(0)?;
        let descriptors: Vec<_> = streams.into_iter().chain(adopted).collect();
        self.helper.send(&Request::Build { lab: lab.clone() }, &descriptors).await?;
        Ok(started)
    }

    /// Waits until the lab stands and its witness runs.
    pub(in crate::backend) async fn built(&mut self) -> Result<Built, HelperError> {
        match self.helper.reply(&mut self.replies).await? {
            Reply::Built { inodes, listening, files, cookies } => {
                let listening = listening.into_iter().collect();
                let files = files.into_iter().collect();
                Ok(Built { inodes, listening, files, cookies })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for a process, whose streams are returned.
    pub(in crate::backend) async fn start(
        &mut self,
        process: Process,
    ) -> Result<Started, HelperError> {
        let (started, streams) = streams(self.helper.next.fetch_add(1, Ordering::Relaxed))?;
        self.helper.send(&Request::Start { id: started.id, process }, &streams).await?;
        Ok(started)
    }

    /// Asks for the gateway, whose streams are returned. `more` are its program and its configuration.
    pub(in crate::backend) async fn start_gateway(
        &mut self,
        gateway: Gateway,
        more: [OwnedFd; 2],
    ) -> Result<Started, HelperError> {
        let (started, streams) = streams(self.helper.next.fetch_add(1, Ordering::Relaxed))?;
        let descriptors: Vec<_> = streams.into_iter().chain(more).collect();
        let request = Request::Start { id: started.id, process: Process::Gateway(gateway) };
        self.helper.send(&request, &descriptors).await?;
        Ok(started)
    }

    /// Waits until a process that was asked for runs.
    pub(in crate::backend) async fn started(&mut self) -> Result<(), HelperError> {
        match self.helper.reply(&mut self.replies).await? {
            Reply::Started { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(reader) = taken(&self.reader) {
            reader.abort();
        }
        drop(taken(&self.child));
    }
}

fn taken<T>(place: &std::sync::Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

/// Three standard streams: ours, and the descriptors for the process.
fn streams(id: u32) -> io::Result<(Started, [OwnedFd; 3])> {
    let (stdio, theirs) = std::os::unix::net::UnixStream::pair()?;
    let (stderr, their_stderr) = std::os::unix::net::UnixStream::pair()?;
    stdio.set_nonblocking(true)?;
    stderr.set_nonblocking(true)?;
    let started =
        Started { id, stdio: UnixStream::from_std(stdio)?, stderr: UnixStream::from_std(stderr)? };
    let again = theirs.try_clone()?;
    Ok((started, [theirs.into(), again.into(), their_stderr.into()]))
}

/// What a process wrote to its standard error, up to a bound, once it has ended.
pub(in crate::backend) async fn complaint(stderr: UnixStream) -> String {
    let mut text = Vec::new();
    let _ = stderr.take(COMPLAINT).read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).trim().to_owned()
}

async fn read(
    control: Arc<UnixDatagram>,
    reply: mpsc::UnboundedSender<Reply>,
    exit: watch::Sender<BTreeMap<u32, i32>>,
) {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let length = match control.recv(&mut buffer).await {
            Ok(length) if length > 0 => length,
            _ => return,
        };
        match serde_json::from_slice(&buffer[..length]) {
            Ok(Reply::Exited { id, code }) => {
                exit.send_modify(|exits| {
                    exits.insert(id, code);
                });
            }
            Ok(other) => {
                if reply.send(other).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn unexpected(reply: &Reply) -> HelperError {
    let what = format!("make sense of the helper's answer {reply:?}");
    HelperError::Failed { what, source: None }
}
