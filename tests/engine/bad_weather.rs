//! What must not happen to bottles on an engine, done to them: on engines of the tests' own, which nobody else misses.

use std::error::Error as _;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, NetworkingConfig,
};
use claude_bottle::backend::docker::plan::Step;
use claude_bottle::backend::docker::private::PrivateEngine;
use claude_bottle::backend::docker::spec::Mount;
use claude_bottle::backend::docker::{
    DockerError, Engine, Launched, Spec, cleanup, image::Image, launch,
};
use claude_bottle::backend::{self, Arena, Backend, LaunchError};
use claude_bottle::bottle::{Bottle as _, Command, End};
use claude_bottle::breach::Breach;
use claude_bottle::host::{Endpoint, Host};
use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::definition::Probe;
use claude_bottle::probe::outcome::RunOutcome;
use claude_bottle::probe::parse::Known;
use claude_bottle::probe::run::{Watch, run};
use claude_bottle::probe::verdict::Verdict;
use claude_bottle_protocol::helper::{Lab, Net};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::trials::{skip, trials};

/// The variable that tells this program to be the [`launcher`].
pub(crate) const KILLED: &str = "CLAUDE_BOTTLE_TEST_ENGINE";
/// How long what is left may take to go.
const GONE: Duration = Duration::from_secs(20);

/// An engine of the test's own.
struct Own {
    private: PrivateEngine,
    client: Engine,
}

impl Own {
    async fn start() -> Self {
        if let Some(why) = Host::detect().lacks_private_engine() {
            skip(why);
        }
        let host = Net { name: "host".into(), forward: true, ..Net::default() };
        let lab = Lab { nets: vec![host], ..Lab::default() };
        let private = PrivateEngine::start(&lab, "host").await.unwrap();
        let endpoint = Endpoint::Unix(private.socket());
        let client = Engine::connect(&endpoint, private.inside(Path::new("/proc"))).await.unwrap();
        Self { private, client }
    }

    async fn launch(&self, spec: &Spec) -> Result<Launched, DockerError> {
        Box::pin(launch(&self.client, spec, &|_| {})).await
    }

    /// Nothing is left of any bottle.
    async fn is_clean(&self) {
        assert_eq!(cleanup::find(&self.client, None).await.unwrap(), []);
    }

    async fn end(self) {
        self.private.end().await.unwrap();
    }
}

fn told(error: &DockerError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[tokio::main]
async fn without_a_free_subnet_the_error_says_how_to_get_one() {
    let own = Own::start().await;
    let mut spec = Spec::new("first");
    spec.pool = "10.215.0.0/28".parse().unwrap();
    let first = own.launch(&spec).await.unwrap();
    spec.name = "second".into();
    let why = told(&own.launch(&spec).await.unwrap_err());
    assert!(why.contains("10.215.0.0/28") && why.contains("`claude-bottle cleanup`"), "{why}");
    first.bottle.teardown().await.unwrap();
    own.is_clean().await;
    own.launch(&spec).await.unwrap().bottle.teardown().await.unwrap();
    own.end().await;
}

/// Launches, and does `meanwhile` on another thread once `after` is reached; the launch waits for it.
async fn launch_with(
    own: &Own,
    after: Step,
    meanwhile: impl FnOnce() + Send + 'static,
) -> Result<Launched, DockerError> {
    let (reached, wait) = mpsc::channel::<mpsc::Sender<()>>();
    std::thread::spawn(move || {
        if let Ok(done) = wait.recv() {
            meanwhile();
            drop(done);
        }
    });
    let hook = move |step| {
        if step == after {
            let (done, waiting) = mpsc::channel();
            reached.send(done).unwrap();
            let _ = waiting.recv();
        }
    };
    Box::pin(launch(&own.client, &Spec::new("disturbed"), &hook)).await
}

/// Runs `work` to its end on a thread that is none of a runtime's.
fn in_a_runtime<F: Future<Output = ()>>(work: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

#[tokio::main]
async fn an_image_that_goes_away_while_a_bottle_is_launched_is_told() {
    let own = Own::start().await;
    let endpoint = Endpoint::Unix(own.private.socket());
    // The image is there before, so that its step is the first.
    own.launch(&Spec::new("before")).await.unwrap().bottle.teardown().await.unwrap();
    let removed = move || {
        in_a_runtime(async {
            let client = Engine::connect(&endpoint, "/nowhere").await.unwrap();
            let tag = Image::of_toolbox().unwrap().tag().to_owned();
            let none = None::<bollard::query_parameters::RemoveImageOptions>;
            client.docker().remove_image(&tag, none, None).await.unwrap();
        });
    };
    let why = told(&launch_with(&own, Step::Home, removed).await.unwrap_err());
    assert!(why.contains("claude-bottle/toolbox:") && why.contains("launch it again"), "{why}");
    own.is_clean().await;
    own.launch(&Spec::new("again")).await.unwrap().bottle.teardown().await.unwrap();
    own.end().await;
}

#[tokio::main]
async fn somebody_else_at_a_pinned_address_is_told() {
    let own = Own::start().await;
    let endpoint = Endpoint::Unix(own.private.socket());
    let taken = move || {
        in_a_runtime(async {
            let client = Engine::connect(&endpoint, "/nowhere").await.unwrap();
            let network = client.docker().inspect_network("disturbed", None).await.unwrap();
            let config = network.ipam.unwrap().config.unwrap().remove(0);
            let gateway: std::net::Ipv4Addr = config.gateway.unwrap().parse().unwrap();
            let bundle = std::net::Ipv4Addr::from(u32::from(gateway) + 1);
            let seat = EndpointSettings {
                ipam_config: Some(EndpointIpamConfig {
                    ipv4_address: Some(bundle.to_string()),
                    ..EndpointIpamConfig::default()
                }),
                ..EndpointSettings::default()
            };
            let body = ContainerCreateBody {
                image: Some(Image::of_toolbox().unwrap().tag().to_owned()),
                cmd: Some(vec!["init".into()]),
                host_config: Some(HostConfig {
                    network_mode: Some("disturbed".into()),
                    ..HostConfig::default()
                }),
                networking_config: Some(NetworkingConfig {
                    endpoints_config: Some([("disturbed".to_owned(), seat)].into()),
                }),
                ..ContainerCreateBody::default()
            };
            let options = None::<bollard::query_parameters::CreateContainerOptions>;
            let made = client.docker().create_container(options, body).await.unwrap();
            client.docker().start_container(&made.id, None).await.unwrap();
        });
    };
    let why = told(&launch_with(&own, Step::Agent, taken).await.unwrap_err());
    assert!(why.contains("Address already in use"), "{why}");
    assert!(why.contains("somebody connected another container"), "{why}");
    own.end().await;
}

/// A folder with a busybox that needs no library.
fn tools() -> tempfile::TempDir {
    let Ok(busybox) = which::which("busybox") else {
        skip("there is no busybox");
    };
    let folder = tempfile::tempdir().unwrap();
    fs::copy(busybox, folder.path().join("busybox")).unwrap();
    folder
}

fn spec_with(tools: &Path, name: &str) -> Spec {
    let mut spec = Spec::new(name);
    let source = tools.join("busybox").display().to_string();
    spec.mounts.push(Mount { source, target: "/busybox".into(), writable: false });
    spec
}

fn busybox(words: &[&str]) -> Command {
    Command::new("/busybox").args(words.iter().copied())
}

#[tokio::main]
async fn a_guest_that_prints_for_ever_fills_nothing_and_stops_nobody() {
    let tools = tools();
    let own = Own::start().await;
    let launched = own.launch(&spec_with(tools.path(), "noisy")).await.unwrap();
    let bottle = &launched.bottle;
    let limit = 100_000;
    let noisy = busybox(&["yes"]).output_limit(limit).timeout(Duration::from_secs(2));
    let quiet = bottle.exec(busybox(&["echo", "quiet"]));
    let (noisy, quiet) = tokio::join!(bottle.exec(noisy), quiet);
    let noisy = noisy.unwrap();
    assert_eq!((noisy.end, noisy.stdout.len() as u64), (End::TimedOut, limit));
    assert!(noisy.stdout_cut > limit, "{}", noisy.stdout_cut);
    assert_eq!(quiet.unwrap().stdout, b"quiet\n");
    // Not by way of the engine's log either.
    let log = own.client.docker().inspect_container(&launched.agent.id, None).await.unwrap();
    assert_eq!(log.host_config.unwrap().log_config.unwrap().typ.as_deref(), Some("none"));
    bottle.teardown().await.unwrap();
    own.is_clean().await;
    own.end().await;
}

#[tokio::main]
async fn files_come_in_whatever_they_are_called_and_however_long_they_are() {
    let tools = tools();
    let own = Own::start().await;
    let launched = own.launch(&spec_with(tools.path(), "files")).await.unwrap();
    let bottle = &launched.bottle;
    let names: [&[u8]; 7] = [
        b"-rf",
        b" ",
        b"a\nb",
        b"\xff\xfe",
        b"$(reboot)`x`;'\"",
        b"\x1b]0;title\x07",
        &[b'x'; 255],
    ];
    let hostile = tempfile::tempdir().unwrap();
    for name in names {
        let path = hostile.path().join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, name).unwrap();
    }
    std::os::unix::fs::symlink("/etc/shadow", hostile.path().join("link")).unwrap();
    bottle.cp_in(hostile.path(), "/home/agent/hostile").await.unwrap();
    // Each file holds its own name: what `find` lists is what is in them.
    let list = busybox(&["find", "/home/agent/hostile", "-type", "f", "-print0"]);
    let listed = bottle.exec(list).await.unwrap();
    let mut found: Vec<_> =
        listed.stdout.split(|byte| *byte == 0).filter(|l| !l.is_empty()).collect();
    found.sort_unstable();
    let mut expected: Vec<_> =
        names.iter().map(|name| [&b"/home/agent/hostile/"[..], name].concat()).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let link = bottle.exec(busybox(&["readlink", "/home/agent/hostile/link"])).await.unwrap();
    assert_eq!(link.stdout, b"/etc/shadow\n", "a link is a link, and not what it leads to here");

    // It has no blocks of its own here; the other side gets every byte.
    let long = hostile.path().join("long");
    let length: u64 = 1 << 30;
    fs::File::create(&long).unwrap().set_len(length).unwrap();
    bottle.cp_in(&long, "/home/agent/long").await.unwrap();
    let counted = bottle.exec(busybox(&["stat", "-c", "%s", "/home/agent/long"])).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), length.to_string());

    let outside = bottle.cp_in(hostile.path(), "/etc/hostile").await.unwrap_err().to_string();
    assert!(outside.contains("/etc/hostile") && outside.contains("ead-only"), "{outside}");
    bottle.teardown().await.unwrap();
    own.is_clean().await;
    own.end().await;
}

/// The children of a process, and theirs.
fn below(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        at += 1;
    }
    all
}

/// The process that holds an arena's engine: `…unix:///proc/PID/root/…`.
fn engine_of(way_in: &str) -> u32 {
    let rest = way_in.split_once("/proc/").expect("a path below /proc").1;
    rest.split('/').next().unwrap().parse().unwrap()
}

fn daemon_below(pid: u32) -> u32 {
    let is_daemon = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "dockerd\n")
    };
    below(pid).into_iter().find(is_daemon).expect("a dockerd")
}

/// Bottles of Docker, whose engine can be found.
struct Found {
    inner: Box<dyn Backend>,
    engine: Arc<OnceLock<u32>>,
}

#[async_trait]
impl Backend for Found {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn breaches(&self) -> &'static [Breach] {
        self.inner.breaches()
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        let arena = self.inner.launch(breach).await?;
        self.engine.set(engine_of(&arena.way_in())).unwrap();
        Ok(arena)
    }
}

/// Does something to the engine, or on it, once so many attempts have ended.
struct Saboteur {
    engine: Arc<OnceLock<u32>>,
    does: fn(u32),
    done: OnceLock<()>,
}

impl Watch for Saboteur {
    fn phase(&self, _: &str) {}

    fn attempts(&self, done: usize, _: usize) {
        if done >= 3 && self.done.set(()).is_ok() {
            (self.does)(*self.engine.get().unwrap());
        }
    }
}

/// A run of all probes on an engine of its own, in the middle of which `does` is done to that.
async fn sabotaged(does: fn(u32)) -> (RunOutcome, u32) {
    if let Some(why) = Host::detect().lacks_private_engine() {
        skip(why);
    }
    let engine = Arc::new(OnceLock::new());
    let backend = Found { inner: backend::by_name("docker").unwrap(), engine: Arc::clone(&engine) };
    let saboteur = Saboteur { engine: Arc::clone(&engine), does, done: OnceLock::new() };
    let outcome = run(&backend, &probes(), None, &saboteur, &()).await.unwrap();
    assert!(saboteur.done.get().is_some(), "it was done");
    for probe in &outcome.probes {
        // What had arrived before, has.
        let is_contained = matches!(probe.verdict, Verdict::Contained { .. });
        assert!(!is_contained, "{}: {:?}", probe.name, probe.verdict);
    }
    let code = claude_bottle::report::exit_code(std::slice::from_ref(&outcome));
    assert_eq!(code, 3, "{outcome:#?}");
    (outcome, *engine.get().unwrap())
}

/// Why nothing is known of the internet.
fn why_inconclusive(outcome: &RunOutcome) -> &str {
    let internet = outcome.probes.iter().find(|probe| probe.name == "internet-tcp").unwrap();
    let Verdict::Inconclusive { why } = &internet.verdict else { panic!("{:?}", internet.verdict) };
    why
}

fn probes() -> Vec<Probe> {
    Catalogue::embedded(Known::all()).unwrap().probes().to_vec()
}

#[tokio::main]
async fn of_an_engine_that_stops_in_the_middle_nothing_is_proven_and_nothing_left() {
    let (outcome, engine) = sabotaged(|engine| {
        let daemon = daemon_below(engine);
        kill(Pid::from_raw(daemon.try_into().unwrap()), Signal::SIGKILL).unwrap();
    })
    .await;
    let why = why_inconclusive(&outcome);
    assert!(why.contains("session ended") || why.contains("broke off"), "{why}");
    assert!(!outcome.notes.is_empty(), "what could not be torn down by name is told");
    assert_gone(engine, None);
}

/// The session in which a prober is at work.
fn session_at_work(engine: u32) -> u32 {
    let said = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_it = |pid: &u32| {
        let children = below(*pid).into_iter().skip(1);
        said(*pid).ends_with(b"toolbox\0session\0")
            && children.into_iter().any(|child| said(child).ends_with(b"toolbox\0prober\0"))
    };
    below(engine).into_iter().find(is_it).expect("a session")
}

/// The folder of a process' memory group, and the file in it that holds the limit.
fn memory_group(pid: u32) -> (PathBuf, &'static str) {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let of = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let is_it = parts.next()?.split(',').any(|one| one == controller);
            parts.next().filter(|_| is_it).map(|group| group.trim_start_matches('/').to_owned())
        })
    };
    match of("memory") {
        Some(group) => (Path::new("/sys/fs/cgroup/memory").join(group), "memory.limit_in_bytes"),
        None => (Path::new("/sys/fs/cgroup").join(of("").unwrap()), "memory.max"),
    }
}

/// Uses up the memory of the bottle that is probed: the kernel kills its session first, and with it all else in there.
fn use_up_memory(engine: u32) {
    let session = session_at_work(engine);
    let (group, limit) = memory_group(session);
    fs::write(format!("/proc/{session}/oom_score_adj"), "1000").unwrap();
    fs::write(group.join(limit), (64 << 20).to_string()).unwrap();
    let script =
        "echo -1000 > /proc/self/oom_score_adj; echo $$ > \"$0\"/cgroup.procs; exec tail /dev/zero";
    let mut greedy = Process::new("sh");
    greedy.args(["-c", script]).arg(&group).stdout(Stdio::null()).stderr(Stdio::null());
    let mut greedy = greedy.spawn().unwrap();
    assert_gone(session, None);
    greedy.kill().unwrap();
    greedy.wait().unwrap();
}

#[tokio::main]
async fn of_a_bottle_whose_memory_is_used_up_in_the_middle_nothing_is_proven() {
    let (outcome, engine) = sabotaged(use_up_memory).await;
    let why = why_inconclusive(&outcome);
    assert!(why.contains("memory was used up"), "{why}");
    assert_eq!(outcome.notes, [] as [String; 0], "it is removed as ever");
    assert_gone(engine, None);
}

/// The control groups of an engine's containers, in some hierarchy.
fn cgroups_of(engine: u32) -> PathBuf {
    let line = fs::read(format!("/proc/{engine}/cmdline")).unwrap();
    let line = String::from_utf8_lossy(&line);
    let name = line.split('\0').find(|word| word.starts_with("claude-bottle-")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup")).unwrap();
    Path::new(line.split(' ').nth(4).unwrap()).join(name)
}

/// Waits until the process, and its control groups, are gone.
fn assert_gone(engine: u32, cgroups: Option<&Path>) {
    let is_left =
        || Path::new(&format!("/proc/{engine}")).exists() || cgroups.is_some_and(Path::exists);
    let until = Instant::now() + GONE;
    while is_left() {
        assert!(Instant::now() < until, "{engine} or {cgroups:?} is left");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn of_a_launcher_that_is_killed_no_engine_is_left() {
    if let Some(why) = Host::detect().lacks_private_engine() {
        skip(why);
    }
    let mut child = Process::new(std::env::current_exe().unwrap())
        .env(KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let way_in = output.lines().map_while(Result::ok).find(|line| line.contains("/proc/"));
    let engine = engine_of(&way_in.expect("the launcher says where its engine is"));
    let (all, cgroups) = (below(engine), cgroups_of(engine));
    assert!(all.len() > 5, "an engine with containers is more than {all:?}");
    assert!(cgroups.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_gone(engine, Some(&cgroups));
    let left: Vec<_> =
        all.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
    assert_eq!(left, [] as [u32; 0]);
}

/// What a test kills: a run that launches and waits.
#[tokio::main]
pub(crate) async fn launcher() {
    let arena = backend::by_name("docker").unwrap().launch(None).await.unwrap();
    println!("{}", arena.way_in());
    loop {
        std::thread::park();
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        without_a_free_subnet_the_error_says_how_to_get_one,
        an_image_that_goes_away_while_a_bottle_is_launched_is_told,
        somebody_else_at_a_pinned_address_is_told,
        a_guest_that_prints_for_ever_fills_nothing_and_stops_nobody,
        files_come_in_whatever_they_are_called_and_however_long_they_are,
        of_an_engine_that_stops_in_the_middle_nothing_is_proven_and_nothing_left,
        of_a_bottle_whose_memory_is_used_up_in_the_middle_nothing_is_proven,
        of_a_launcher_that_is_killed_no_engine_is_left,
    ]
}
