//! `claude-bottle probe --explain`: what was expected beside what was seen, and why.

use std::process::ExitCode;

use super::selection::Selection;
use super::{Runner, breaches, interrupt};
use crate::cli::{Colour, print};
use crate::report::explain::{Explained, render_explained};
use crate::report::progress::Progress;

/// Probes the sound bottle, or those with the wanted breaches, and compares.
pub(super) fn run(
    runner: &Runner<'_>,
    selection: &Selection,
    colour: Colour,
    progress: Progress,
) -> anyhow::Result<ExitCode> {
    let arguments = runner.arguments;
    let mut all = Vec::new();
    for name in &arguments.backend {
        let probes = selection.runnable(name);
        let Some(backend) = selection.backend(name).filter(|_| !probes.is_empty()) else {
            continue;
        };
        let wanted = match &arguments.breach {
            None => vec![None],
            Some(wanted) => {
                breaches::breaches(backend.as_ref(), wanted)?.into_iter().map(Some).collect()
            }
        };
        let Some(outcomes) = runner.each(backend.as_ref(), &probes, &wanted, &progress) else {
            return Ok(ExitCode::from(interrupt::CODE));
        };
        for (breach, mut outcome) in wanted.into_iter().zip(outcomes) {
            let derived = outcome.expected.take().or_else(|| backend.expected(breach, &probes));
            // Without a table every attempt is one that nothing is expected of.
            let table = derived.unwrap_or_default();
            all.push(Explained {
                backend: name.clone(),
                breach: outcome.breach.clone(),
                comparison: table.compare(&outcome),
            });
        }
    }
    progress.finish();
    print::out(&render_explained(&all, colour.style(arguments.verbose)))?;
    let differs = all.iter().any(|one| one.comparison.differences().next().is_some());
    let nothing = all.iter().all(|one| one.comparison.rows.is_empty());
    Ok(ExitCode::from(match (differs, nothing) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    }))
}
