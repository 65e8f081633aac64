//! Which probes a breach flips: declared, and seen.

use std::collections::BTreeSet;

use super::definition::Probe;
use super::outcome::{AttemptOutcome, ProbeOutcome, RunOutcome, Standing};
use super::verdict::Verdict;
use crate::breach::Breach;

/// The names of the probes that must flip under `breach` on `backend`, sorted: those whose `proven-by` names it, and its
/// knock-ons.
pub fn declared(probes: &[Probe], breach: Breach, backend: &str) -> Vec<String> {
    use super::definition::{Expect, RunsOn};
    let declares = |probe: &&Probe| {
        probe.proven_by.iter().any(|name| name == breach.name())
            || breach.knock_ons().contains(&probe.name.as_str())
    };
    // What leaks anyway leaks with a breach and without.
    let runs = |probe: &&Probe| match probe.runs_on(backend) {
        RunsOn::Runs { attempts, .. } => attempts.iter().any(|one| one.expect != Expect::Leaks),
        RunsOn::Skipped { .. } => false,
    };
    let mut names: Vec<_> =
        probes.iter().filter(declares).filter(runs).map(|probe| probe.name.clone()).collect();
    names.sort();
    names
}

/// Whether the probe noticed: something leaked that is not known to, or what must be reached was not.
pub fn has_flipped(outcome: &ProbeOutcome) -> bool {
    if outcome.standing() == Standing::KnownLeak {
        return false;
    }
    matches!(outcome.verdict, Verdict::Leaked { .. } | Verdict::Unreached { .. })
        // A leak hides behind nothing, but what is not reached hides behind what is inconclusive.
        || outcome.attempts.iter().any(|one| matches!(one.verdict, Verdict::Unreached { .. }))
}

/// The methods, sorted, by which attempts were made and never noticed anything in any of `runs`: nothing shows that they
/// could.
pub fn unflipped_methods(runs: &[RunOutcome]) -> Vec<String> {
    let attempts = || runs.iter().flat_map(|run| &run.probes).flat_map(|probe| &probe.attempts);
    let flipped: BTreeSet<_> = attempts().filter(|attempt| notices(attempt)).map(method).collect();
    let made: BTreeSet<_> = attempts().filter(|attempt| is_made(attempt)).map(method).collect();
    made.difference(&flipped).map(|method| (*method).to_owned()).collect()
}

/// What is tried begins with the method's word.
fn method(attempt: &AttemptOutcome) -> &str {
    attempt.what.split(' ').next().unwrap_or_default()
}

fn notices(attempt: &AttemptOutcome) -> bool {
    matches!(attempt.verdict, Verdict::Leaked { .. } | Verdict::Unreached { .. })
}

fn is_made(attempt: &AttemptOutcome) -> bool {
    !matches!(attempt.verdict, Verdict::Skipped { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{
        attempt, contained, known, leaked, probe, run, skipped, unreached,
    };

    #[test]
    fn a_known_leak_is_nothing_that_a_breach_did() {
        let leaks = probe("dns", leaked());
        assert!(has_flipped(&leaks));
        assert!(!has_flipped(&known(leaks)));
    }

    #[test]
    fn a_method_that_never_noticed_anything_is_told() {
        let mut quiet = probe("a", contained());
        quiet.attempts = vec![
            attempt("tcp to internet:443", contained()),
            attempt("udp to internet:53", contained()),
            attempt("exec a command", unreached("it ended otherwise")),
            attempt("vsock to host", skipped("no vsock")),
        ];
        let mut noticed = quiet.clone();
        noticed.attempts[0].verdict = leaked();
        assert_eq!(unflipped_methods(&[run(vec![quiet.clone()])]), ["tcp", "udp"]);
        assert_eq!(unflipped_methods(&[run(vec![quiet]), run(vec![noticed])]), ["udp"]);
    }
}
