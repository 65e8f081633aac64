//! `cargo test --test probes`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use libtest_mimic::{Arguments, Completion, Trial};

use super::batch::Batch;
use super::{
    Ended, JUNIT, catalogue, junit_path, note_nothing, selected, under_nextest, unmet, unmet_by,
};
use crate::backend;
use crate::host::Host;
use crate::probe::outcome::{ProbeOutcome, RunOutcome, Standing};
use crate::probe::verdict::Verdict;
use crate::report::json::{Context, Report};
use crate::report::{self, file, junit, markdown, terminal};

/// Lists or runs every probe on every backend. The `main` of `tests/probes.rs`.
pub fn probes() -> ExitCode {
    let arguments = Arguments::from_args();
    let catalogue = match catalogue() {
        Ok(catalogue) => catalogue,
        Err(code) => return code,
    };
    let host = Host::detect();
    let mut trials = Vec::new();
    let mut batches: Vec<Arc<Batch>> = Vec::new();
    let mut skipped: Vec<RunOutcome> = Vec::new();
    for backend in backend::NAMES.iter().copied() {
        let mut runnable = Vec::new();
        let mut unmet_here = Vec::new();
        for probe in catalogue.probes() {
            let name = format!("{backend}::{}", probe.name);
            if let Some(why) = unmet_by(probe, &host, backend) {
                if selected(&arguments, &name) {
                    unmet_here.push(ProbeOutcome::skipped(probe, why.clone()));
                }
                trials.push(unmet(name, &why));
            } else if selected(&arguments, &name) {
                runnable.push(probe.clone());
            }
        }
        let batch = Arc::new(Batch::new(backend, None, runnable.clone()));
        for probe in runnable {
            let (batch, name) = (Arc::clone(&batch), probe.name.clone());
            trials.push(Trial::ignorable_test(format!("{backend}::{name}"), move || {
                ended(batch.outcome(), batch.probe(&name))
            }));
        }
        batches.push(batch);
        if !unmet_here.is_empty() {
            skipped.push(RunOutcome::of_skipped(backend, unmet_here));
        }
    }
    note_nothing(&arguments, trials.iter().any(|trial| selected(&arguments, trial.name())));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut runs: Vec<_> = batches.iter().filter_map(|batch| batch.if_run().cloned()).collect();
    RunOutcome::merge(&mut runs, skipped);
    if !arguments.list && !under_nextest() && !runs.is_empty() {
        let path = junit_path(JUNIT, "probes");
        let now = SystemTime::now();
        let written = file::write_atomic(&path, &junit::to_xml(&runs, now));
        let code = report::exit_code(&runs);
        let report = || Report::of(&runs, &Context::default(), code, |_, _, _| false);
        let written = written
            .and_then(|()| file::append_to_job_summary(|| markdown::render(&report(), None)));
        if let Err(error) = written {
            eprintln!("{}", crate::error_chain(&error));
            return ExitCode::from(2);
        }
    }
    conclusion.exit_code()
}

fn ended(run: &RunOutcome, probe: Option<&ProbeOutcome>) -> Ended {
    let Some(probe) = probe else { return Err("the run has no outcome for this probe".into()) };
    if let Verdict::Skipped { why } = &probe.verdict {
        return Ok(Completion::ignored_with(why.clone()));
    }
    match probe.standing() {
        Standing::Pass | Standing::KnownLeak | Standing::Skip => Ok(Completion::Completed),
        Standing::Fail | Standing::Error => {
            let style = terminal::Style { verbose: 2, ..terminal::Style::default() };
            let alone = RunOutcome { probes: vec![probe.clone()], ..run.clone() };
            Err(terminal::render(&[alone], style).into())
        }
    }
}
