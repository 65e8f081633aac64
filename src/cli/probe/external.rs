//! `claude-bottle probe --in COMMAND`: a sandbox of another make.

use super::Runner;
use super::selection::Selection;
use crate::backend::external::{External, NAME, SandboxCommand};
use crate::probe::definition::Probe;
use crate::probe::outcome::{ProbeOutcome, RunOutcome};
use crate::report::progress::Progress;

/// Probes the sandbox.
pub(super) fn run(
    runner: &Runner<'_>,
    command: &SandboxCommand,
    selection: &Selection,
    progress: &Progress,
) -> Vec<RunOutcome> {
    let (probes, needy): (Vec<Probe>, Vec<Probe>) =
        selection.probes().iter().cloned().partition(|probe| probe.needs.is_empty());
    let backend = External::new(command.clone());
    let outcome = runner.run(&backend, &probes, progress).unwrap_or_else(|| {
        RunOutcome::inconclusive(NAME, None, &probes, "the run was interrupted")
    });
    let mut runs = vec![outcome];
    let skipped = needy.iter().map(|probe| {
        let why = format!("needs {} inside the sandbox", probe.needs.join(", "));
        ProbeOutcome::skipped(probe, why)
    });
    RunOutcome::merge(&mut runs, vec![RunOutcome::of_skipped(NAME, skipped.collect())]);
    runs
}
