//! Counts over runs, and the exit code that follows from them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prose;
use crate::probe::outcome::{ProbeOutcome, RunOutcome, Standing};
use crate::probe::verdict::Verdict;

const NOTHING: &str = "nothing was tried, so nothing is proven";

/// How many probes ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// All of them, the skipped ones too.
    pub probes: usize,
    /// Attempts that were made.
    pub attempts: usize,
    /// As they should be.
    pub passed: usize,
    /// Leaks that are known.
    pub known_leaks: usize,
    /// Leaks.
    pub leaked: usize,
    /// What must be reached and was not.
    pub unreached: usize,
    /// Known leaks that are gone.
    pub leaks_gone: usize,
    /// It cannot be told.
    pub inconclusive: usize,
    /// Not tried.
    pub skipped: usize,
}

impl Tally {
    /// Counts over all runs.
    pub fn of(runs: &[RunOutcome]) -> Self {
        let mut tally = Self::default();
        for probe in runs.iter().flat_map(|run| &run.probes) {
            tally.add(probe);
        }
        tally
    }

    fn add(&mut self, probe: &ProbeOutcome) {
        let tried = |verdict: &Verdict| !matches!(verdict, Verdict::Skipped { .. });
        self.probes += 1;
        self.attempts += probe.attempts.iter().filter(|attempt| tried(&attempt.verdict)).count();
        let counter = match (probe.standing(), &probe.verdict) {
            (Standing::Pass, _) => &mut self.passed,
            (Standing::KnownLeak, _) => &mut self.known_leaks,
            (Standing::Fail, Verdict::Leaked { .. }) => &mut self.leaked,
            (Standing::Fail, Verdict::Unreached { .. }) => &mut self.unreached,
            (Standing::Fail, _) => &mut self.leaks_gone,
            (Standing::Error, _) => &mut self.inconclusive,
            (Standing::Skip, _) => &mut self.skipped,
        };
        *counter += 1;
    }

    /// Whether nothing was tried at all, so that nothing is proven.
    pub fn is_nothing(&self) -> bool {
        self.probes == self.skipped
    }

    /// 1: a leak or an expectation that is not met; 3: it cannot be told, or nothing was tried; 0: all is well.
    pub fn exit_code(&self) -> u8 {
        if self.leaked + self.unreached + self.leaks_gone > 0 {
            1
        } else if self.inconclusive > 0 || self.is_nothing() {
            3
        } else {
            0
        }
    }
}

/// `12 probes, 187 attempts: 11 contained or reached, 1 leaked`.
impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (probes, attempts) =
            (prose::count(self.probes, "probe"), prose::count(self.attempts, "attempt"));
        write!(f, "{probes}, {attempts}: ")?;
        let parts: Vec<_> = [
            (self.passed, "contained or reached"),
            (self.known_leaks, "leaked as known"),
            (self.leaked, "leaked"),
            (self.leaks_gone, "no longer leaking as known"),
            (self.unreached, "unreached"),
            (self.inconclusive, "inconclusive"),
            (self.skipped, "skipped"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
        f.write_str(&parts.join(", "))?;
        match (self.probes, self.is_nothing()) {
            (0, _) => f.write_str(NOTHING),
            (_, true) => write!(f, "; {NOTHING}"),
            (_, false) => Ok(()),
        }
    }
}

/// The exit code of a run: see [`Tally::exit_code`].
pub fn exit_code(runs: &[RunOutcome]) -> u8 {
    Tally::of(runs).exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{
        contained, inconclusive, known, leaked, probe, reached, run, skipped, unreached,
    };

    #[test]
    fn the_worst_outcome_decides_the_exit_code() {
        let skip = || probe("skip", skipped("no docker"));
        let pass = || probe("pass", contained());
        let reach = || probe("reach", reached());
        let leak = || probe("leak", leaked());
        let short = || probe("short", unreached("nothing came"));
        let unclear = || probe("unclear", inconclusive("no control"));
        let amber = || known(probe("amber", leaked()));
        let gone = || known(probe("gone", contained()));

        let table = [
            (vec![], 3),
            (vec![skip()], 3),
            (vec![skip(), skip()], 3),
            (vec![pass()], 0),
            (vec![reach(), skip()], 0),
            (vec![amber()], 0),
            (vec![pass(), unclear()], 3),
            (vec![pass(), leak()], 1),
            (vec![pass(), short()], 1),
            (vec![pass(), gone()], 1),
            (vec![unclear(), leak(), pass()], 1),
            (vec![unclear(), gone()], 1),
            (vec![amber(), unclear()], 3),
        ];
        for (probes, code) in table {
            let names: Vec<_> = probes.iter().map(|probe| probe.name.clone()).collect();
            assert_eq!(exit_code(&[run(probes)]), code, "{names:?}");
        }
        assert_eq!(exit_code(&[]), 3, "no run at all");
        assert_eq!(exit_code(&[run(vec![pass()]), run(vec![])]), 0, "one backend of two did run");
        assert_eq!(
            exit_code(&[run(vec![pass()]), run(vec![leak()])]),
            1,
            "one backend of two leaks"
        );
    }

    #[test]
    fn the_summary_counts_everything_once() {
        let probes = vec![
            probe("a", contained()),
            probe("b", reached()),
            probe("c", leaked()),
            known(probe("d", leaked())),
            known(probe("e", contained())),
            probe("f", unreached("nothing came")),
            probe("g", inconclusive("no control")),
            probe("h", skipped("no docker")),
        ];
        let tally = Tally::of(&[run(probes)]);
        insta::assert_snapshot!(tally, @r"8 probes, 7 attempts: 2 contained or reached, 1 leaked as known, 1 leaked, 1 no longer leaking as known, 1 unreached, 1 inconclusive, 1 skipped");
        insta::assert_snapshot!(Tally::default(), @r"0 probes, 0 attempts: nothing was tried, so nothing is proven");
        insta::assert_snapshot!(Tally::of(&[run(vec![probe("a", skipped("no docker"))])]), @r"1 probe, 0 attempts: 1 skipped; nothing was tried, so nothing is proven");
        insta::assert_snapshot!(Tally::of(&[run(vec![probe("a", reached())])]), @r"1 probe, 1 attempt: 1 contained or reached");
    }
}
