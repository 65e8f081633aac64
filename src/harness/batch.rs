//! One run that several trials share.

use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::Runtime;

use crate::backend;
use crate::breach::Breach;
use crate::error_chain;
use crate::probe::definition::Probe;
use crate::probe::outcome::{ProbeOutcome, RunOutcome};
use crate::probe::verdict::Verdict;
use crate::probe::{flip, run};
use crate::runtime::{self, RuntimeError};

/// A run on one backend, made when its first trial asks for it.
pub(super) struct Batch {
    backend: &'static str,
    breach: Option<Breach>,
    probes: Vec<Probe>,
    outcome: OnceLock<RunOutcome>,
}

impl Batch {
    /// A run of `probes`, which are sorted by name.
    pub(super) fn new(backend: &'static str, breach: Option<Breach>, probes: Vec<Probe>) -> Self {
        Self { backend, breach, probes, outcome: OnceLock::new() }
    }

    /// The outcome; the first caller makes the run, others wait for it.
    pub(super) fn outcome(&self) -> &RunOutcome {
        self.outcome.get_or_init(|| {
            let first = self.run();
            // A positive may be tried again: on a busy machine a first contact over IPv6 may come too late to be told
            // from a denial. A leak that was seen is never tried away.
            if self.missed_a_flip(&first) { self.run() } else { first }
        })
    }

    /// Whether a breach's declared probe could not tell, rather than did not notice.
    fn missed_a_flip(&self, outcome: &RunOutcome) -> bool {
        let Some(breach) = self.breach else { return false };
        let declared = flip::declared(&self.probes, breach, self.backend);
        outcome.probes.iter().any(|probe| {
            declared.contains(&probe.name)
                && !flip::has_flipped(probe)
                && matches!(probe.verdict, Verdict::Inconclusive { .. })
        })
    }

    fn run(&self) -> RunOutcome {
        let failed = |error: &str| {
            let breach = self.breach.map(Breach::name);
            RunOutcome::launch_failed(self.backend, breach, &self.probes, error)
        };
        let Some(backend) = backend::by_name(self.backend) else {
            return failed("this build has no such backend");
        };
        let run = run::run(backend.as_ref(), &self.probes, self.breach, &(), &());
        match with_runtime(|runtime| runtime.block_on(run)) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => failed(&error_chain(&error)),
            Err(error) => failed(&error_chain(&error)),
        }
    }

    /// The outcome of one probe.
    pub(super) fn probe(&self, name: &str) -> Option<&ProbeOutcome> {
        self.outcome().probes.iter().find(|probe| probe.name == name)
    }

    /// The outcome, if the run was made.
    pub(super) fn if_run(&self) -> Option<&RunOutcome> {
        self.outcome.get()
    }
}

/// One runtime for all runs of this process.
pub(super) fn with_runtime<T>(work: impl FnOnce(&Runtime) -> T) -> Result<T, RuntimeError> {
    static RUNTIME: Mutex<Option<&'static Runtime>> = Mutex::new(None);
    let runtime = {
        let mut shared = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = *shared {
            runtime
        } else {
            let made: &'static Runtime = Box::leak(Box::new(runtime::make()?));
            *shared = Some(made);
            made
        }
    };
    Ok(work(runtime))
}
