//! Where bottles are launched: beside a stand-in for smolvm and an engine of the test's own, or for real.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use async_trait::async_trait;
use claude_bottle::backend;
use claude_bottle::backend::docker::private::{EngineError, PrivateEngine};
use claude_bottle::backend::docker::{Engine, cleanup};
use claude_bottle::backend::smolmachines::cache::Cache;
use claude_bottle::backend::smolmachines::image::Hatch;
use claude_bottle::backend::smolmachines::launch;
use claude_bottle::backend::smolmachines::launch::{Ground, LaunchFailed, Launched, Step, Tools};
use claude_bottle::backend::smolmachines::on_host::OnHost;
use claude_bottle::backend::smolmachines::plan::Spec;
use claude_bottle::backend::smolmachines::smolvm::Smolvm;
use claude_bottle::backend::smolmachines::smolvm::arguments::Size;
use claude_bottle::backend::smolmachines::smolvm::run::Here;
use claude_bottle::bundle::gateway;
use claude_bottle::bundle::pipelock::Allowlist;
use claude_bottle::host::{Endpoint, Host};
use claude_bottle_protocol::helper::{Lab, Net};
use serde::{Deserialize, Serialize};

use crate::trials::skip;

/// How the stand-in is told where its machines are, and what version it is of.
pub(crate) const STAND_IN: [&str; 2] = ["SMOLVM_STAND_IN", "SMOLVM_STAND_IN_VERSION"];
/// A release with labels, and one without.
pub(crate) const LABELS: &str = "1.32.2";
pub(crate) const NO_LABELS: &str = "1.4.0";
/// Runs a command where `/dev/kvm` can be opened, if only as a file.
const WITH_KVM: &str = "
    mount -t tmpfs -o mode=0755 none /mnt
    cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /mnt
    : >/mnt/kvm
    mount --bind /mnt /dev
    exec \"$@\"";
/// The program.
const CLAUDE_BOTTLE: &str = env!("CARGO_BIN_EXE_claude-bottle");

/// Where bottles are launched, as a process can tell another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) socket: PathBuf,
    pub(crate) proc: PathBuf,
    /// The net namespace of the engine's host.
    pub(crate) net: PathBuf,
    pub(crate) smolvm: PathBuf,
    pub(crate) cache: PathBuf,
    /// Where files are handed over to the stand-in.
    pub(crate) hatch: PathBuf,
    /// Whether the stand-in's host reaches the bundle.
    pub(crate) reached: bool,
    /// The stand-in's own variables; none for the real smolvm.
    pub(crate) env: BTreeMap<String, String>,
}

impl Place {
    /// The stand-in, as of this version, beside this engine.
    fn of_stand_in(engine: &PrivateEngine, folder: &Path, version: &str) -> Self {
        let machines = folder.join("machines");
        let programs = folder.join("programs");
        for made in [&machines, &programs] {
            std::fs::create_dir_all(made).unwrap();
        }
        let smolvm = programs.join("smolvm");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smolvm/stand-in.sh");
        std::os::unix::fs::symlink(script, &smolvm).unwrap();
        let daemon = engine.pid_of_daemon().unwrap().to_string();
        let env = [machines.display().to_string(), version.to_owned()];
        Self {
            socket: engine.socket(),
            proc: engine.inside(Path::new("/proc")),
            net: engine.inside(&Path::new("/proc").join(daemon).join("ns/net")),
            smolvm,
            cache: folder.join("cache"),
            hatch: folder.to_owned(),
            reached: true,
            env: STAND_IN.map(str::to_owned).into_iter().zip(env).collect(),
        }
    }

    /// The smolvm and the engine of this host. The test ends as ignored where machines do not boot.
    pub(crate) fn real() -> Self {
        let host = Host::detect();
        if let Some(why) = backend::lacking(&host, "smolmachines") {
            skip(why);
        }
        let Ok(docker) = &host.docker else { unreachable!("it was asked for") };
        let Endpoint::Unix(socket) = &docker.endpoint else {
            skip("the engine has no socket here")
        };
        Self {
            socket: socket.clone(),
            proc: "/proc".into(),
            net: "/proc/self/ns/net".into(),
            smolvm: which::which("smolvm").unwrap(),
            // Kept from run to run: a pack takes long.
            cache: Cache::of_user().unwrap().folder().to_owned(),
            hatch: PathBuf::new(),
            reached: true,
            env: BTreeMap::new(),
        }
    }

    pub(crate) fn is_real(&self) -> bool {
        self.env.is_empty()
    }

    pub(crate) async fn engine(&self) -> Engine {
        Engine::connect(&Endpoint::Unix(self.socket.clone()), &self.proc).await.unwrap()
    }

    pub(crate) async fn ground(&self) -> Box<dyn Ground> {
        let engine = self.engine().await;
        if self.is_real() {
            return Box::new(OnHost::new(&self.smolvm, engine).await.unwrap());
        }
        let runs = Arc::new(Here::default().with_env(self.env.clone()));
        let smolvm = Smolvm::find(&self.smolvm, runs).await.unwrap();
        let (here, there) = (self.hatch.clone(), self.hatch.clone());
        let (hatch, place) = (Hatch { here, there }, self.clone());
        Box::new(StandIn { tools: Tools { smolvm, engine, hatch }, place })
    }

    /// A bottle as for work, with a gateway that lets nothing through.
    pub(crate) async fn launch(
        &self,
        name: &str,
        done: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Launched, LaunchFailed> {
        let gateway = Some(gateway::config(&Allowlist::default()));
        self.launch_as(&Spec { name: name.to_owned(), gateway, ..Spec::default() }, done).await
    }

    pub(crate) async fn launch_as(
        &self,
        spec: &Spec,
        done: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Launched, LaunchFailed> {
        let cache = Cache::at(&self.cache);
        let size = Size { processors: Some(1), memory: Some(1024) };
        let spec = Spec { size, ..spec.clone() };
        Box::pin(launch(&*self.ground().await, &cache, &spec, true, done)).await
    }

    /// The program, asked about what is here.
    pub(crate) fn claude_bottle(&self, arguments: &[&str]) -> Output {
        self.among(Command::new(CLAUDE_BOTTLE)).args(arguments).output().unwrap()
    }

    /// The program on the engine's host, which has a `/dev/kvm` that can be opened, if only a file.
    pub(crate) fn on_host(&self, arguments: &[&str]) -> Command {
        if self.is_real() {
            let mut program = Command::new(CLAUDE_BOTTLE);
            program.args(arguments);
            return program;
        }
        let mut program = self.among(Command::new("nsenter"));
        program.arg(format!("--net={}", self.net.display()));
        program.args(["unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc"]);
        program.args([WITH_KVM, "with-kvm", CLAUDE_BOTTLE]).args(arguments);
        program.env("CLAUDE_BOTTLE_SMOLVM_ON_LINUX", "1").env("XDG_CACHE_HOME", &self.cache);
        program.env_remove("GITEA_ACTIONS");
        program
    }

    fn among(&self, mut program: Command) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        program.env("PATH", format!("{}:{path}", self.smolvm.parent().unwrap().display()));
        program.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        program.envs(&self.env);
        program
    }

    /// The row of `ls --json` for this bottle, if it has one.
    pub(crate) fn row(&self, name: &str) -> Option<serde_json::Value> {
        let listed = self.claude_bottle(&["ls", "--json"]);
        assert!(listed.status.success(), "{listed:?}");
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        listed["bottles"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned()
    }

    /// What there is of a bottle, looked at past everything that is tested: on the engine, and with smolvm.
    pub(crate) async fn parts(&self, name: &str) -> (usize, bool) {
        let found = cleanup::find(&self.engine().await, Some(name)).await.unwrap();
        let machine = self.ground().await.tools().smolvm.machine(name).await.unwrap();
        (found.len(), machine.is_some())
    }

    /// What comes of `work` in the net namespace of the engine's host.
    pub(crate) fn in_net<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let net = File::open(&self.net).unwrap();
        // A thread of its own, which ends there.
        let working = std::thread::spawn(move || {
            enter(&net);
            work()
        });
        working.join().unwrap()
    }
}

#[cfg(target_os = "linux")]
fn enter(net: &File) {
    use nix::sched::{CloneFlags, setns};
    setns(net, CloneFlags::CLONE_NEWNET).unwrap();
}

#[cfg(not(target_os = "linux"))]
fn enter(_: &File) {
    unreachable!("these tests are ignored there");
}

struct StandIn {
    tools: Tools,
    place: Place,
}

#[async_trait]
impl Ground for StandIn {
    fn tools(&self) -> &Tools {
        &self.tools
    }

    /// It is said.
    async fn reaches(&self, _address: SocketAddr, _from: Ipv4Addr) -> bool {
        self.place.reached
    }

    async fn listens(&self, port: u16) -> bool {
        self.place.in_net(move || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
    }
}

pub(crate) fn name() -> String {
    format!("test-{:08x}", rand::random::<u32>())
}

/// An engine of the test's own.
async fn private_engine() -> PrivateEngine {
    let host = Net { name: "host".into(), ..Net::default() };
    let lab = Lab { nets: vec![host], ..Lab::default() };
    match PrivateEngine::start(&lab, "host").await {
        Ok(engine) => engine,
        Err(why @ (EngineError::NotRoot | EngineError::NotInstalled)) => skip(why),
        Err(other) => panic!("{other}"),
    }
}

/// Beside a stand-in of `version`, with an engine and a folder of the test's own.
pub(crate) async fn beside_a_stand_in(version: &str, test: impl AsyncFnOnce(&Place)) {
    let engine = private_engine().await;
    let folder = tempfile::tempdir().unwrap();
    test(&Place::of_stand_in(&engine, folder.path(), version)).await;
    engine.end().await.unwrap();
}
