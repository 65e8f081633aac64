//! `cargo test --test canaries`.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use libtest_mimic::{Arguments, Completion, Trial};

use super::batch::with_runtime;
use super::{
    CANARIES, CANARY_JUNIT, Ended, RUN_CANARIES, folder, junit_path, note_nothing, selected,
    under_nextest, unmet,
};
use crate::canary::{self, Canary, CanaryOutcome, Finding};
use crate::host::Host;
use crate::report::canaries::render_canaries;
use crate::report::terminal::Style;
use crate::report::{file, junit, markdown};

/// Lists or runs every canary, if that is asked for. The `main` of `tests/canaries.rs`.
///
/// One trial per canary, named by kind: `toolbox::toolbox-in-namespace`. Wrong definitions are an error in any case.
pub fn canaries() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = match folder(CANARIES, "canaries") {
        Some(folder) => canary::discover(&folder),
        None => canary::embedded(),
    };
    let canaries = match found {
        Ok(canaries) => canaries,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(2);
        }
    };
    let is_wanted = std::env::var_os(RUN_CANARIES).is_some_and(|value| value == "1");
    let host = Arc::new(Host::detect());
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let mut trials = Vec::new();
    for canary in canaries {
        let name = format!("{}::{}", canary.check.kind(), canary.name);
        if !is_wanted {
            trials.push(unmet(name, &format!("set {RUN_CANARIES}=1")));
        } else if let Some(why) = canary::unmet(&canary, &host) {
            if selected(&arguments, &name) {
                let skipped = Finding::Skipped { why: why.clone() };
                keep(&outcomes, CanaryOutcome::of(&canary, skipped));
            }
            trials.push(unmet(name, &why));
        } else {
            trials.push(trial(name, canary, &host, &outcomes));
        }
    }
    note_nothing(&arguments, trials.iter().any(|trial| selected(&arguments, trial.name())));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut outcomes = std::mem::take(&mut *lock(&outcomes));
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    // Ignored for want of the variable, they leave the report of their last run as it is.
    if !arguments.list && !under_nextest() && !outcomes.is_empty() {
        let path = junit_path(CANARY_JUNIT, "canaries");
        let xml = junit::canaries_to_xml(&outcomes, SystemTime::now());
        let written = file::write_atomic(&path, &xml);
        let markdown = || markdown::render_canaries(&outcomes);
        if let Err(error) = written.and_then(|()| file::append_to_job_summary(markdown)) {
            eprintln!("{}", crate::error_chain(&error));
            return ExitCode::from(2);
        }
    }
    conclusion.exit_code()
}

type Outcomes = Mutex<Vec<CanaryOutcome>>;

fn trial(name: String, canary: Canary, host: &Arc<Host>, outcomes: &Arc<Outcomes>) -> Trial {
    let (host, outcomes) = (Arc::clone(host), Arc::clone(outcomes));
    Trial::ignorable_test(name, move || -> Ended {
        let outcome = with_runtime(|runtime| runtime.block_on(canary::run(&canary, &host)));
        let outcome = outcome?;
        keep(&outcomes, outcome.clone());
        match &outcome.finding {
            Finding::Unchanged { .. } => Ok(Completion::Completed),
            Finding::Skipped { why } => Ok(Completion::ignored_with(why.clone())),
            Finding::Changed { .. } | Finding::Unreachable { .. } => {
                Err(render_canaries(&[outcome], Style::default()).into())
            }
        }
    })
}

fn keep(outcomes: &Outcomes, outcome: CanaryOutcome) {
    lock(outcomes).push(outcome);
}

fn lock(outcomes: &Outcomes) -> std::sync::MutexGuard<'_, Vec<CanaryOutcome>> {
    outcomes.lock().unwrap_or_else(PoisonError::into_inner)
}
