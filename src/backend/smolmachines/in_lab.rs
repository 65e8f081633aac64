//! smolvm in the lab around a private engine: on that one's host, in its net, mount and PID namespaces. Whatever it starts is gone
//! with the lab, and what it dials ends there.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::helper::{Process, Program};
use claude_bottle_protocol::prober::{Action, Batch, Fuse, How, Target};
use tokio::io::AsyncWriteExt as _;

use super::image::Hatch;
use super::launch::{Ground, Tools};
use super::smolvm::run::{Runs, Started};
use super::smolvm::{Smolvm, SmolvmError};
use crate::backend::docker::Engine;
use crate::backend::docker::private::PrivateEngine;
use crate::lab::{StreamLines, batch_line, converse};
use crate::probe::attempt::{attempt, fresh_nonce};

/// smolvm's home, in memory: the private engine's folder is.
const HOME: &str = "/run/smolvm";
/// What it needs of this process' variables, by how they begin.
const PASSED: [&str; 2] = ["PATH", "SMOLVM_"];

/// The lab's host.
#[derive(Clone)]
pub(super) struct InLab {
    engine: Arc<PrivateEngine>,
    net: String,
}

impl fmt::Debug for InLab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lab's {}", self.net)
    }
}

impl InLab {
    pub(super) fn new(engine: &Arc<PrivateEngine>, net: &str) -> Self {
        Self { engine: Arc::clone(engine), net: net.to_owned() }
    }

    /// Whether the process with this number there is in the lab's net, and not in any other.
    pub(super) fn holds(&self, pid: u32) -> bool {
        let namespace = self.engine.inside(Path::new(&format!("/proc/{pid}/ns/net")));
        let inode = std::fs::metadata(namespace).ok();
        let inode = inode.map(|about| std::os::unix::fs::MetadataExt::ino(&about));
        inode.is_some() && inode == self.engine.inode(&self.net)
    }
}

#[async_trait]
impl Runs for InLab {
    async fn start(&self, argv: &[String], input: bool) -> io::Result<Started> {
        let passed = |name: &str| PASSED.iter().any(|begin| name.starts_with(begin));
        let mut env: BTreeMap<_, _> = std::env::vars().filter(|(name, _)| passed(name)).collect();
        env.insert("HOME".to_owned(), HOME.to_owned());
        let program = Program {
            net: self.net.clone(),
            argv: argv.to_vec(),
            env,
            folder: None,
            files: BTreeMap::new(),
            shown: BTreeMap::new(),
        };
        let started = self.engine.helper().start(Process::Program(program)).await;
        let started = started.map_err(io::Error::other)?;
        let (output, mut writer) = started.stdio.into_split();
        let mut ours = None;
        if input {
            ours = Some(Box::pin(writer) as super::smolvm::run::Input);
        } else {
            writer.shutdown().await?;
            // Both halves share one socket: what is dropped here stays open for reading.
            drop(writer);
        }
        let running = Running { engine: Arc::clone(&self.engine), id: started.id, ended: false };
        let end = Box::pin(running.ended());
        let error = Box::pin(started.stderr);
        Ok(Started { input: ours, output: Box::pin(output), error, end })
    }

    fn ends_with_us(&self) -> bool {
        true
    }
}

/// A process that is killed where nobody waits for its end any more.
struct Running {
    engine: Arc<PrivateEngine>,
    id: u32,
    ended: bool,
}

impl Running {
    /// Waits for its end; its exit code.
    async fn ended(mut self) -> io::Result<i32> {
        let code = self.engine.helper().exit_of(self.id).await;
        self.ended = true;
        code.map_err(io::Error::other)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (engine, id) = (Arc::clone(&self.engine), self.id);
        // Without a runtime the lab is about to end, and the process with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { engine.helper().kill(id).await });
        }
    }
}

/// smolvm and a private engine, in one lab.
pub(super) struct LabGround {
    pub(super) lab: InLab,
    tools: Tools,
}

impl LabGround {
    /// Takes `program` into the lab.
    pub(super) async fn new(
        lab: InLab,
        program: &Path,
        engine: Engine,
    ) -> Result<Self, SmolvmError> {
        let there = PathBuf::from(HOME);
        let here = lab.engine.inside(&there);
        let made = std::fs::create_dir_all(&here);
        made.map_err(|source| SmolvmError::Run { program: here.clone(), source })?;
        let smolvm = Smolvm::find(program, Arc::new(lab.clone())).await?;
        let tools = Tools { smolvm, engine, hatch: Hatch { here, there } };
        Ok(Self { lab, tools })
    }
}

#[async_trait]
impl Ground for LabGround {
    fn tools(&self) -> &Tools {
        &self.tools
    }

    async fn reaches(&self, address: SocketAddr, _from: Ipv4Addr) -> bool {
        let how = self.lab.dialled(address).await;
        matches!(how, Some(How::Answered | How::Connected | How::Refused))
    }

    async fn listens(&self, port: u16) -> bool {
        let how = self.lab.dialled((Ipv4Addr::LOCALHOST, port).into()).await;
        matches!(how, Some(How::Answered | How::Connected))
    }
}

impl InLab {
    /// What comes of dialling this address from there.
    async fn dialled(&self, address: SocketAddr) -> Option<How> {
        let Self { engine, net } = self;
        let prober = engine.helper().start(Process::Prober { net: net.clone() }).await;
        let prober = prober.ok()?;
        let (output, mut input) = prober.stdio.into_split();
        let target = Target { host: address.ip().to_string(), port: address.port() };
        let batch = Batch {
            token: fresh_nonce(),
            fuse: Fuse::Namespaces(engine.inode(net).into_iter().collect()),
            attempts: vec![attempt(0, fresh_nonce(), Action::Tcp(target))],
        };
        input.write_all(&batch_line(&batch)).await.ok()?;
        let mut lines = StreamLines::new(output);
        let answers = converse(&batch, &mut lines, |_| {});
        let answers = tokio::time::timeout(Duration::from_secs(20), answers).await;
        Some(answers.ok()?.words.get(&0)?.0.how)
    }
}
