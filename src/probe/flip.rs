//! Which probes a breach flips: declared, and seen.

use super::definition::Probe;
use super::outcome::ProbeOutcome;
use super::verdict::Verdict;
use crate::breach::Breach;

/// The names of the probes that must flip under `breach` on `backend`, sorted: those whose `proven-by` names it, and its
/// knock-ons.
pub fn declared(probes: &[Probe], breach: Breach, backend: &str) -> Vec<String> {
    use super::definition::RunsOn;
    let declares = |probe: &&Probe| {
        probe.proven_by.iter().any(|name| name == breach.name())
            || breach.knock_ons().contains(&probe.name.as_str())
    };
    let runs = |probe: &&Probe| matches!(probe.runs_on(backend), RunsOn::Runs { .. });
    let mut names: Vec<_> =
        probes.iter().filter(declares).filter(runs).map(|probe| probe.name.clone()).collect();
    names.sort();
    names
}

/// Whether the probe noticed: something leaked, or what must be reached was not.
pub fn has_flipped(outcome: &ProbeOutcome) -> bool {
    matches!(outcome.verdict, Verdict::Leaked { .. } | Verdict::Unreached { .. })
        // A leak hides behind nothing, but what is not reached hides behind what is inconclusive.
        || outcome.attempts.iter().any(|one| matches!(one.verdict, Verdict::Unreached { .. }))
}
