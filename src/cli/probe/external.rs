//! `claude-bottle probe --in COMMAND`: a sandbox of another make.

use anyhow::bail;

use super::Runner;
use super::selection::Selection;
use crate::backend::external::{External, NAME, SandboxCommand};
use crate::backend::lacking;
use crate::host::{Host, Requirements};
use crate::probe::definition::Probe;
use crate::probe::outcome::{ProbeOutcome, RunOutcome};
use crate::report::progress::Progress;

/// Probes the sandbox. An error where something cannot be allowed.
pub(super) fn run(
    runner: &Runner<'_>,
    command: &SandboxCommand,
    selection: &Selection,
    progress: &Progress,
) -> anyhow::Result<Vec<RunOutcome>> {
    let arguments = runner.arguments;
    if let Some(client) = command.client().filter(|_| arguments.lab) {
        bail!(
            "{client} has the sandbox made by somebody who is not in the lab, which would show nothing: leave --lab out"
        );
    }
    let (probes, needy): (Vec<Probe>, Vec<Probe>) =
        selection.probes().iter().cloned().partition(|probe| probe.needs.is_empty());
    let mut backend =
        External::new(command.clone()).allowing(arguments.allow.clone()).in_lab(arguments.lab);
    if let Some(patience) = arguments.patience {
        backend = backend.patience(patience);
    }
    let probes = backend.probes(probes)?;
    let host = Host::detect();
    let no_lab = || {
        let why = lacking(&host, "namespace").filter(|_| arguments.lab)?;
        Some(format!("no lab can be made here: {why}"))
    };
    let outcome = match Requirements::for_backend(NAME).reason(&host).or_else(no_lab) {
        Some(why) => RunOutcome::inconclusive(NAME, None, &probes, &why),
        None => runner.run(&backend, &probes, progress).unwrap_or_else(|| {
            RunOutcome::inconclusive(NAME, None, &probes, "the run was interrupted")
        }),
    };
    let mut runs = vec![outcome];
    let skipped = needy.iter().map(|probe| {
        let why = format!("needs {} inside the sandbox", probe.needs.join(", "));
        ProbeOutcome::skipped(probe, why)
    });
    RunOutcome::merge(&mut runs, vec![RunOutcome::of_skipped(NAME, skipped.collect())]);
    Ok(runs)
}
