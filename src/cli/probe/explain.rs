//! `claude-bottle probe --explain`: what was expected beside what was seen, and why.

use std::process::ExitCode;

use tokio::runtime::Runtime;

use super::selection::Selection;
use super::{Arguments, breaches, interrupt, many};
use crate::backend;
use crate::cli::Colour;
use crate::report::explain::{Explained, render_explained};
use crate::report::progress::Progress;

/// Probes the sound bottle, or those with the wanted breaches, and compares.
pub(super) fn run(
    runtime: &Runtime,
    selection: &Selection,
    arguments: &Arguments,
    colour: Colour,
    progress: Progress,
) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for name in &arguments.backend {
        let probes = selection.runnable(name);
        let Some(backend) = backend::by_name(name).filter(|_| !probes.is_empty()) else {
            continue;
        };
        let wanted = match &arguments.breach {
            None => vec![None],
            Some(wanted) => {
                breaches::breaches(backend.as_ref(), wanted)?.into_iter().map(Some).collect()
            }
        };
        let keep = interrupt::Keep { wanted: arguments.keep };
        let runs = many::each(backend.as_ref(), &probes, &wanted, &progress, &keep);
        let Some(outcomes) = runtime.block_on(interrupt::or_interrupted(runs)) else {
            return Ok(ExitCode::from(interrupt::CODE));
        };
        for (breach, outcome) in wanted.into_iter().zip(outcomes) {
            // Without a table every attempt is one that nothing is expected of.
            let table = backend.expected(breach, &probes).unwrap_or_default();
            all.push(Explained {
                backend: name.clone(),
                breach: outcome.breach.clone(),
                comparison: table.compare(&outcome),
            });
        }
    }
    progress.finish();
    print!("{}", render_explained(&all, colour.style(arguments.verbose)));
    let differs = all.iter().any(|one| one.comparison.differences().next().is_some());
    let nothing = all.iter().all(|one| one.comparison.rows.is_empty());
    Ok(ExitCode::from(match (differs, nothing) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    }))
}
