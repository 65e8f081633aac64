//! An engine of the run's own: a whole host, hermetic, with `dockerd` on it.
//!
//! It has mount, PID and net namespaces of its own, keeps its data in memory, and is gone with the run however that ends:
//! `dockerd`, containerd and every container are in the PID namespace of the helper, whose end is theirs. Around it is the
//! lab's world, on a wire to the net namespace that `dockerd` is in. Takes root and an installed `dockerd`.

mod config;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claude_bottle_protocol::helper::{Lab, Process};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use self::config::{PID_FILE, SOCKET, program};
use crate::backend::namespace::helper::{Built, Helper, HelperError};
use crate::lab::Witness;

/// How long `dockerd` may take to answer. It takes 0.3 s on an idle machine.
const READY: Duration = Duration::from_secs(30);
/// How long to wait between two questions whether it does.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How much of what it complains of is kept, in bytes: the end.
const COMPLAINT: usize = 4096;

/// Why there is no private engine.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Its host is made of namespaces.
    #[error("a private Docker engine takes Linux")]
    NotLinux,
    /// Nobody but root may make one.
    #[error("a private Docker engine takes root")]
    NotRoot,
    /// There is no program to run.
    #[error("a private Docker engine takes dockerd, which is not installed (Debian: docker.io)")]
    NotInstalled,
    /// Its host could not be made.
    #[error("cannot make the private engine's host")]
    Host(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It ended.
    #[error("the private engine's dockerd ended with code {code}: {said}")]
    Ended {
        /// Its exit code.
        code: i32,
        /// The end of its log.
        said: String,
    },
    /// It does not answer.
    #[error("the private engine's dockerd did not answer within {} s: {said}", READY.as_secs())]
    Silent {
        /// The end of its log.
        said: String,
    },
}

impl From<HelperError> for EngineError {
    fn from(error: HelperError) -> Self {
        Self::Host(error.into())
    }
}

/// The program to run, where this process may run it.
fn installed() -> Result<PathBuf, EngineError> {
    if !cfg!(target_os = "linux") {
        return Err(EngineError::NotLinux);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(EngineError::NotRoot);
    }
    which::which("dockerd").map_err(|_| EngineError::NotInstalled)
}

/// A running private engine. Dropping it ends it, with everything that was made on it.
pub struct PrivateEngine {
    helper: Arc<Helper>,
    pid: u32,
    built: Built,
    witness: Witness,
    daemon: u32,
    log: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl PrivateEngine {
    /// Makes `lab`, and starts `dockerd` in its net `net`.
    pub async fn start(lab: &Lab, net: &str) -> Result<Self, EngineError> {
        let dockerd = installed()?;
        let name = format!("claude-bottle-{:016x}", rand::random::<u64>());
        let helper = Helper::launch_privileged(&name).await?;
        let pid = helper.id().ok_or(HelperError::Died)?;
        let mut talk = helper.talk().await;
        let witness = talk.build(lab, Vec::new()).await;
        let daemon = talk.start(Process::Program(program(&dockerd, net, &name))).await;
        // Where it could not even be asked, what the helper has said before explains that.
        talk.ready().await?;
        let witness = witness?;
        let built = talk.built().await?;
        let daemon = daemon?;
        talk.started().await?;
        drop(talk);
        let (events, orders) = witness.stdio.into_split();
        let log = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(keep_the_end(daemon.stderr, Arc::clone(&log)));
        let engine = Self {
            helper: Arc::new(helper),
            pid,
            built,
            witness: Witness::new(events, orders),
            daemon: daemon.id,
            log,
            reader,
        };
        engine.answers().await?;
        Ok(engine)
    }

    /// Where it listens, as it can be reached from here.
    pub fn socket(&self) -> PathBuf {
        self.inside(Path::new(SOCKET))
    }

    /// A path of its host, as it can be reached from here.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The process that holds its host's PID namespace, seen from here.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process of `dockerd`, as its host counts.
    pub fn pid_of_daemon(&self) -> io::Result<u32> {
        let text = std::fs::read_to_string(self.inside(Path::new(PID_FILE)))?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// What sees whatever arrives in the lab around it.
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    /// The inode number of a net namespace of the lab around it.
    pub fn inode(&self, net: &str) -> Option<u64> {
        self.built.inodes.get(net).copied()
    }

    /// What the helper told of the lab around it.
    pub(in crate::backend) fn built(&self) -> &Built {
        &self.built
    }

    /// What makes the lab: it starts further processes in it.
    pub(in crate::backend) fn helper(&self) -> &Helper {
        &self.helper
    }

    /// Adds a part to the lab, with a witness of its own.
    pub(in crate::backend) async fn extend(
        &self,
        lab: &Lab,
    ) -> Result<(Built, Witness), EngineError> {
        let mut talk = self.helper.talk().await;
        let started = talk.build(lab, Vec::new()).await?;
        let built = talk.built().await?;
        let (events, orders) = started.stdio.into_split();
        Ok((built, Witness::new(events, orders)))
    }

    /// Ends it, with everything that was made on it, and waits until no process of it is left.
    pub async fn end(&self) -> Result<(), EngineError> {
        Ok(self.helper.end().await?)
    }

    /// Waits until it answers.
    async fn answers(&self) -> Result<(), EngineError> {
        let socket = self.socket();
        let asking = async {
            while ping(&socket).await.is_err() {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::select! {
            answered = tokio::time::timeout(READY, asking) => {
                answered.map_err(|_| EngineError::Silent { said: self.said() })
            }
            ended = self.helper.exit_of(self.daemon) => {
                Err(EngineError::Ended { code: ended?, said: self.said() })
            }
        }
    }

    fn said(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&log).trim().to_owned()
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Whether somebody serves the engine's API there (`GET /_ping`).
async fn ping(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(COMPLAINT as u64).read_to_end(&mut answer).await?;
    let is_ready = answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200");
    if is_ready { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Reads a log to its end, so that whoever writes it never waits, and keeps its last bytes.
async fn keep_the_end(mut stderr: UnixStream, log: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; COMPLAINT];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(&buffer[..length]);
        let surplus = log.len().saturating_sub(COMPLAINT);
        log.drain(..surplus);
    }
}
