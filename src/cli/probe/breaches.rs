//! `claude-bottle probe --breach`: every probe proven able to fail.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::bail;

use super::selection::Selection;
use super::{Runner, interrupt, reports};
use crate::backend::Backend;
use crate::breach::Breach;
use crate::cli::{Colour, print};
use crate::nearest::nearest;
use crate::probe::definition::Probe;
use crate::probe::flip;
use crate::probe::outcome::{ProbeOutcome, RunOutcome};
use crate::probe::verdict::Verdict;
use crate::report::breaches::{BreachMatrix, BreachRow, Cell, render_breaches};
use crate::report::json::Report;
use crate::report::progress::Progress;
use crate::report::terminal;

/// Makes the wanted breaches, each in a bottle of its own.
pub(super) fn run(
    runner: &Runner<'_>,
    wanted: &str,
    selection: &Selection,
    colour: Colour,
    progress: Progress,
    started: SystemTime,
) -> anyhow::Result<ExitCode> {
    let arguments = runner.arguments;
    let style = colour.style(arguments.verbose);
    let mut worst = 0;
    let mut text = String::new();
    let mut runs = Vec::new();
    for name in &arguments.backend {
        let probes = selection.runnable(name);
        let Some(backend) = selection.backend(name).filter(|_| !probes.is_empty()) else {
            let skipped = selection.skipped(name);
            text += &terminal::render(&skipped, style);
            worst = worst.max(crate::report::exit_code(&skipped));
            runs.extend(skipped);
            continue;
        };
        let wanted_here = breaches(backend.as_ref(), wanted)?;
        if let [breach] = wanted_here[..] {
            concerns(breach, &probes, name)?;
        }
        let bottles: Vec<_> = wanted_here.iter().copied().map(Some).collect();
        let Some(outcomes) = runner.each(backend.as_ref(), &probes, &bottles, &progress) else {
            return Ok(ExitCode::from(interrupt::CODE));
        };
        if wanted != "all" || arguments.verbose > 0 {
            for outcome in &outcomes {
                text += &terminal::render(std::slice::from_ref(outcome), style);
                text.push('\n');
            }
        }
        let made = |outcome: &RunOutcome| outcome.probes.iter().map(|p| p.attempts.len()).sum();
        let matrix = BreachMatrix {
            backend: name.clone(),
            attempts: outcomes.iter().map(made).max().unwrap_or(0),
            unproven_methods: flip::unflipped_methods(&outcomes),
            rows: wanted_here
                .iter()
                .zip(&outcomes)
                .map(|(breach, outcome)| row(outcome, *breach, selection))
                .collect(),
        };
        text += &render_breaches(&matrix, style);
        if wanted == "all" {
            let refused = Breach::names().into_iter().filter_map(Breach::by_name);
            let refused = refused.filter_map(|breach| backend.refuses(breach));
            text.extend(refused.map(|why| format!("not tried: {why}\n")));
        }
        worst = worst.max(code(&matrix, wanted));
        runs.extend(outcomes);
    }
    progress.finish();
    let declared = |backend: &str, breach: &str, probe: &str| {
        let is_it =
            |run: &&RunOutcome| run.backend == backend && run.breach.as_deref() == Some(breach);
        let run = runs.iter().find(is_it).zip(Breach::by_name(breach));
        run.is_some_and(|(run, breach)| {
            flips(run, breach, selection).iter().any(|name| name == probe)
        })
    };
    let report = Report::of(&runs, &reports::context(started), worst, declared);
    let printed = print::out(&text);
    printed.and(arguments.reports.write(&report, None, &runs, started))?;
    Ok(ExitCode::from(worst))
}

/// A breach that none of the selected probes names would prove nothing, whatever came of it.
fn concerns(breach: Breach, probes: &[Probe], backend: &str) -> anyhow::Result<()> {
    if flip::declared(probes, breach, backend).is_empty() {
        let selected: Vec<_> = probes.iter().map(|probe| probe.name.as_str()).collect();
        bail!(
            "the breach {breach} would prove nothing: none of the selected probes names it in its \
             proven-by ({})",
            selected.join(", ")
        );
    }
    Ok(())
}

/// With one breach alone, other probes are not proven, and need not be.
fn code(matrix: &BreachMatrix, wanted: &str) -> u8 {
    if wanted == "all" {
        return matrix.exit_code();
    }
    let as_declared = |cell: &Cell| cell.expected_flip == cell.flipped;
    let cells = || matrix.rows.iter().flat_map(|row| &row.cells);
    match (cells().all(as_declared), cells().any(|cell| cell.expected_flip)) {
        (false, _) => 1,
        // Nothing was to be shown, so nothing is.
        (true, false) => 3,
        (true, true) => 0,
    }
}

/// Those that `wanted` names, or all of them.
pub(super) fn breaches(backend: &dyn Backend, wanted: &str) -> anyhow::Result<Vec<Breach>> {
    let here = backend.breaches();
    if wanted == "all" {
        return Ok(here.to_vec());
    }
    if let Some(breach) = here.iter().find(|breach| breach.name() == wanted) {
        return Ok(vec![*breach]);
    }
    if let Some(why) = Breach::by_name(wanted).and_then(|breach| backend.refuses(breach)) {
        bail!("{why}");
    }
    let names: Vec<_> = here.iter().map(|breach| breach.name()).collect();
    let hint = match nearest(wanted, names.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are: {}, and all", names.join(", ")),
    };
    bail!("{} cannot make a breach named {wanted:?}; {hint}", backend.name())
}

/// The probes that must flip: those that declare the breach, and those that it flips in a bottle that is made as this one is.
fn flips(outcome: &RunOutcome, breach: Breach, selection: &Selection) -> Vec<String> {
    let mut names = flip::declared(selection.probes(), breach, &outcome.backend);
    if let Some(backend) = selection.backend(&outcome.backend) {
        let also = backend.flips_also(breach, &outcome.made_of);
        names.extend(also.iter().map(ToString::to_string));
    }
    names
}

fn row(outcome: &RunOutcome, breach: Breach, selection: &Selection) -> BreachRow {
    let declared = flips(outcome, breach, selection);
    // What is not tried here can prove nothing, and need not.
    let tried = |probe: &&ProbeOutcome| !matches!(probe.verdict, Verdict::Skipped { .. });
    let cells = outcome.probes.iter().filter(tried).map(|probe| Cell {
        probe: probe.name.clone(),
        expected_flip: declared.contains(&probe.name),
        flipped: flip::has_flipped(probe),
        verdict: probe.verdict.word(),
    });
    BreachRow { breach: breach.name().into(), cells: cells.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::catalogue::Catalogue;
    use crate::probe::parse::Known;

    #[test]
    fn a_breach_that_none_of_the_selected_probes_names_is_refused() {
        let catalogue = Catalogue::embedded(Known::all()).unwrap();
        let only = |name: &str| vec![catalogue.get(name).unwrap().clone()];
        let breach = Breach::EgressOnAllInterfaces;
        assert!(concerns(breach, &only("egress-port-bypass"), "namespace").is_ok());
        let error = concerns(breach, &only("smoke-echo"), "namespace").unwrap_err().to_string();
        assert!(error.contains("egress-on-all-interfaces would prove nothing"), "{error}");
        assert!(error.contains("(smoke-echo)"), "{error}");
    }
}
