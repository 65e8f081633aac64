//! A run that is watched, and whose prober may be another program.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use claude_bottle::backend::namespace::Namespace;
use claude_bottle::backend::{Arena, Backend, LaunchError};
use claude_bottle::bottle::{Bottle, BottleError, Command, Running};
use claude_bottle::breach::Breach;
use claude_bottle::host::Requirement;
use claude_bottle::lab::{Address, Fixture};
use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::definition::{Expect, Probe};
use claude_bottle::probe::outcome::{AttemptOutcome, ProbeOutcome, RunOutcome};
use claude_bottle::probe::parse::Known;
use claude_bottle::probe::run::{Watch, run};
use claude_bottle::probe::verdict::Verdict;
use claude_bottle::teardown::TeardownError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::trace::Trace;
use crate::trials::needs_user_namespaces;

/// Something that happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment<'a> {
    /// A phase begins.
    Phase(&'a str),
    /// So many attempts have ended.
    Attempts(usize),
}

/// What a saboteur has to work with.
pub(crate) struct Scene {
    pub(crate) trace: Trace,
    listening: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
}

impl Scene {
    /// Where a listener listens, by its name.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        self.listening.lock().unwrap()[name]
    }

    pub(crate) fn witness(&self) -> u32 {
        self.trace.witness().expect("a witness")
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().expect("a pid")), signal).expect("send a signal");
}

/// One run at a time: each finds its processes among the children of this one.
static ONE: Mutex<()> = Mutex::new(());

/// A run and its saboteur.
pub(crate) struct Run {
    script: Option<String>,
    breach: Option<Breach>,
    probes: &'static [&'static str],
}

impl Run {
    /// Of these probes.
    pub(crate) fn of(probes: &'static [&'static str]) -> Self {
        Self { script: None, breach: None, probes }
    }

    /// With this shell script instead of the prober.
    pub(crate) fn with_prober(mut self, script: &str) -> Self {
        self.script = Some(script.to_owned());
        self
    }

    pub(crate) fn with_breach(mut self, breach: Breach) -> Self {
        self.breach = Some(breach);
        self
    }

    /// The outcome, with nothing left behind; the test is ignored where no bottle can be launched.
    pub(crate) fn outcome(self, deed: impl FnMut(Moment<'_>, &Scene) + Send) -> RunOutcome {
        needs_user_namespaces();
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let listening = Arc::default();
        let scene = Scene {
            trace: Trace::of(std::process::id(), "no mark".into()),
            listening: Arc::clone(&listening),
        };
        let mut backend = Namespace::default();
        if self.script.is_some() {
            for folder in ["/bin", "/lib", "/lib64", "/usr"].into_iter().filter(is_there) {
                backend = backend.showing(folder, folder);
            }
        }
        let backend = Sabotaged { backend, script: self.script, listening };
        let watch = Saboteur(Mutex::new((deed, scene)));
        let probes = probes(self.probes);
        let runtime = claude_bottle::runtime::make().expect("a runtime");
        let outcome = runtime.block_on(run(&backend, &probes, self.breach, &watch, &()));
        drop(runtime);
        let Saboteur(watched) = watch;
        let (_, scene) = watched.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(scene.trace.processes() >= 5, "it was watched");
        assert!(scene.trace.net_namespaces() >= 2, "it was watched");
        scene.trace.assert_nothing_left();
        outcome.expect("a bottle")
    }
}

fn is_there(path: &&str) -> bool {
    std::path::Path::new(path).exists()
}

fn probes(names: &[&str]) -> Vec<Probe> {
    let (breaches, requirements) = (Breach::names(), Requirement::words());
    let known = Known::from(breaches.as_slice()).with_requirements(&requirements);
    let catalogue = Catalogue::embedded(known).expect("the project's own probes");
    let wanted = |probe: &&Probe| names.contains(&probe.name.as_str());
    let probes: Vec<_> = catalogue.probes().iter().filter(wanted).cloned().collect();
    assert_eq!(probes.len(), names.len());
    probes
}

/// Does its deed at every moment.
struct Saboteur<F>(Mutex<(F, Scene)>);

impl<F: FnMut(Moment<'_>, &Scene) + Send> Saboteur<F> {
    fn act(&self, moment: Moment<'_>) {
        let mut act = self.0.lock().unwrap();
        let (deed, scene) = &mut *act;
        scene.trace.look();
        deed(moment, scene);
    }
}

impl<F: FnMut(Moment<'_>, &Scene) + Send> Watch for Saboteur<F> {
    fn phase(&self, name: &str) {
        self.act(Moment::Phase(name));
    }

    fn attempts(&self, done: usize, _: usize) {
        self.act(Moment::Attempts(done));
    }
}

/// The embedded backend; if there is a script, it runs in the place of the prober.
struct Sabotaged {
    backend: Namespace,
    script: Option<String>,
    listening: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
}

#[async_trait]
impl Backend for Sabotaged {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn breaches(&self) -> &'static [Breach] {
        self.backend.breaches()
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        let arena = self.backend.launch(breach).await?;
        for (_, _, _, one) in arena.lab().sites().all() {
            if let Address::Inet(address) = one.address {
                self.listening.lock().unwrap().entry(one.name.clone()).or_insert(address);
            }
        }
        Ok(Box::new(SabotagedArena(arena, self.script.clone())))
    }
}

struct SabotagedArena(Box<dyn Arena>, Option<String>);

#[async_trait]
impl Arena for SabotagedArena {
    fn bottle(&self) -> &dyn Bottle {
        self
    }

    fn lab(&self) -> &dyn Fixture {
        self.0.lab()
    }

    fn way_in(&self) -> String {
        self.0.way_in()
    }

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        self.0.teardown().await
    }
}

#[async_trait]
impl Bottle for SabotagedArena {
    fn name(&self) -> &str {
        self.0.bottle().name()
    }

    fn toolbox(&self) -> &str {
        self.0.bottle().toolbox()
    }

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        let is_prober = command.argv().get(1).is_some_and(|role| role == "prober");
        let command = match &self.1 {
            Some(script) if is_prober => {
                Command::new("/bin/sh").args(["-c", script]).stream_stdin()
            }
            _ => command,
        };
        self.0.bottle().start(command).await
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        self.0.bottle().teardown().await
    }
}

/// The probe of this name.
pub(crate) fn probe<'a>(run: &'a RunOutcome, name: &str) -> &'a ProbeOutcome {
    run.probes.iter().find(|probe| probe.name == name).expect("it was selected")
}

/// Why it is inconclusive; for each attempt that was made.
#[track_caller]
pub(crate) fn inconclusive(probe: &ProbeOutcome) -> Vec<&str> {
    assert!(matches!(probe.verdict, Verdict::Inconclusive { .. }), "{probe:#?}");
    let whys = probe.attempts.iter().filter_map(|attempt| match &attempt.verdict {
        Verdict::Inconclusive { why } => Some(why.as_str()),
        // Somebody else has the port.
        Verdict::Skipped { .. } => None,
        other => panic!("{}: {other:?}", attempt.what),
    });
    whys.collect()
}

/// Nothing that must be kept out is said to be kept out.
#[track_caller]
pub(crate) fn assert_nothing_contained(run: &RunOutcome) {
    let denials = |attempt: &&AttemptOutcome| attempt.expect != Expect::Reached;
    for attempt in run.probes.iter().flat_map(|probe| &probe.attempts).filter(denials) {
        let passes = matches!(attempt.verdict, Verdict::Contained { .. } | Verdict::Reached);
        assert!(!passes, "{attempt:#?}");
    }
}
