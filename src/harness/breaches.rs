//! `cargo test --test breaches`: every probe proven able to fail.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Trial};

use super::batch::Batch;
use super::{Ended, catalogue, lacking, note_nothing, selected, unmet, unmet_by};
use crate::backend;
use crate::breach::Breach;
use crate::expected::Table;
use crate::host::Host;
use crate::probe::catalogue::Catalogue;
use crate::probe::definition::Probe;
use crate::probe::flip;
use crate::probe::outcome::ProbeOutcome;
use crate::probe::verdict::Verdict;
use crate::report::explain::{self, Explained};
use crate::report::terminal;

/// Lists or runs every breach on every backend. The `main` of `tests/breaches.rs`.
///
/// One trial per backend, breach and declared probe, named `namespace::no-bundle-route::bundle-reach`, and one that
/// no other probe flipped: `namespace::no-bundle-route::no-other`. And one per backend and bottle, the sound one included,
/// that every attempt came out as the plan lets expect: `namespace::sound::as-expected`.
pub fn breaches() -> ExitCode {
    let arguments = Arguments::from_args();
    let catalogue = match catalogue() {
        Ok(catalogue) => Arc::new(catalogue),
        Err(code) => return code,
    };
    let host = Host::detect();
    let mut trials = Vec::new();
    for name in backend::NAMES.iter().copied() {
        let Some(backend) = backend::by_name(name) else { continue };
        let lacking = lacking(&host, name);
        let as_expected = |breach: Option<Breach>, batch: &Arc<Batch>| {
            let trial = format!("{name}::{}::as-expected", breach.map_or("sound", Breach::name));
            if let Some(why) = &lacking {
                return unmet(trial, why);
            }
            let table = backend.expected(breach, catalogue.probes());
            must_be_as_expected(trial, batch, table)
        };
        // What proves nothing here is not made: see `unmet_by`.
        let can_run = |probe: &&Probe| unmet_by(probe, &host, name).is_none();
        let probes: Vec<_> = catalogue.probes().iter().filter(can_run).cloned().collect();
        let sound = Arc::new(Batch::new(name, None, probes.clone()));
        trials.push(as_expected(None, &sound));
        for breach in backend.breaches().iter().copied() {
            let batch = Arc::new(Batch::new(name, Some(breach), probes.clone()));
            let concerned = if lacking.is_some() { catalogue.probes() } else { &probes };
            let declared = flip::declared(concerned, breach, name);
            for probe in declared {
                let trial = format!("{name}::{breach}::{probe}");
                trials.push(match &lacking {
                    Some(why) => unmet(trial, why),
                    None => must_flip(trial, &batch, probe),
                });
            }
            trials.push(as_expected(Some(breach), &batch));
            let trial = format!("{name}::{breach}::no-other");
            trials.push(match &lacking {
                Some(why) => unmet(trial, why),
                None => no_other_may(trial, &batch, breach, &catalogue),
            });
        }
    }
    note_nothing(&arguments, trials.iter().any(|trial| selected(&arguments, trial.name())));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn must_flip(name: String, batch: &Arc<Batch>, probe: String) -> Trial {
    let batch = Arc::clone(batch);
    Trial::ignorable_test(name, move || -> Ended {
        match batch.probe(&probe) {
            Some(outcome) if flip::has_flipped(outcome) => Ok(Completion::Completed),
            // What is not tried here can prove nothing, and need not.
            Some(ProbeOutcome { verdict: Verdict::Skipped { why }, .. }) => {
                Ok(Completion::ignored_with(why.clone()))
            }
            _ => Err(told(&batch, "the probe did not notice the breach")),
        }
    })
}

fn no_other_may(
    name: String,
    batch: &Arc<Batch>,
    breach: Breach,
    catalogue: &Arc<Catalogue>,
) -> Trial {
    let (batch, catalogue) = (Arc::clone(batch), Arc::clone(catalogue));
    Trial::ignorable_test(name, move || -> Ended {
        let run = batch.outcome();
        let declared = flip::declared(catalogue.probes(), breach, &run.backend);
        let backend = backend::by_name(&run.backend);
        let also = backend.map_or(&[][..], |backend| backend.flips_also(breach, &run.made_of));
        let others: Vec<_> = run
            .probes
            .iter()
            .filter(|probe| flip::has_flipped(probe) && !declared.contains(&probe.name))
            .map(|probe| probe.name.as_str())
            .filter(|name| !also.contains(name))
            .collect();
        if others.is_empty() {
            return Ok(Completion::Completed);
        }
        let others = others.join(", ");
        Err(told(&batch, &format!("flipped, though nothing declares that they would: {others}")))
    })
}

/// `table` is what the plan lets expect; none: what it does as it was carried out.
fn must_be_as_expected(name: String, batch: &Arc<Batch>, table: Option<Table>) -> Trial {
    let batch = Arc::clone(batch);
    Trial::ignorable_test(name, move || -> Ended {
        let run = batch.outcome();
        // Without a table, such as after a launch that failed, nothing agrees.
        let table = table.or_else(|| run.expected.clone()).unwrap_or_default();
        let mut comparison = table.compare(run);
        if comparison.rows.is_empty() {
            return Err(told(&batch, "nothing was tried"));
        }
        comparison.rows.retain(|row| !row.agrees);
        if comparison.rows.is_empty() {
            return Ok(Completion::Completed);
        }
        let (backend, breach) = (run.backend.clone(), run.breach.clone());
        let differences = [Explained { backend, breach, comparison }];
        let style = terminal::Style { verbose: 1, ..terminal::Style::default() };
        Err(told(&batch, &explain::render_explained(&differences, style)))
    })
}

fn told(batch: &Batch, what: &str) -> libtest_mimic::Failed {
    let style = terminal::Style { verbose: 2, ..terminal::Style::default() };
    format!("{what}\n{}", terminal::render(std::slice::from_ref(batch.outcome()), style)).into()
}
