//! What a run found, as plain data: the only thing that reports are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::definition::{Expect, Probe, Severity, Site};
use super::verdict::{Said, Verdict};
use crate::expected::Table;
use crate::lab::Wiring;

/// One run of selected probes against one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunOutcome {
    /// The backend, such as `namespace`.
    pub backend: String,
    /// The breach that was made, if any.
    pub breach: Option<String>,
    /// The probes, sorted by name.
    pub probes: Vec<ProbeOutcome>,
    /// What the run cost.
    pub cost: Cost,
    /// What the outside saw of the bottle and a reader should know, one sentence each.
    pub notes: Vec<String>,
    /// How bottle and lab were wired, as far as the backend tells.
    #[serde(default)]
    pub wiring: Wiring,
    /// What the bottle was made of: an engine with its version, images with their digests. Empty where there are none.
    #[serde(default)]
    pub made_of: BTreeMap<String, String>,
    /// What must have come of each attempt, where that is derived from the plan as it was carried out; no report has it.
    #[serde(skip)]
    pub expected: Option<Table>,
}

/// One probe's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeOutcome {
    /// Its name, the file's stem.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Why it exists.
    pub why: String,
    /// How bad a leak would be.
    pub severity: Severity,
    /// The worst of its attempts' verdicts.
    pub verdict: Verdict,
    /// A leak that is known, and where it is documented: passes, but shows amber.
    pub known_leak: Option<String>,
    /// Its attempts, in the order of the definition.
    pub attempts: Vec<AttemptOutcome>,
    /// From its first attempt's start to its last one's end.
    #[serde(rename = "took_us", with = "crate::report::micros")]
    #[schemars(with = "u64")]
    pub took: Duration,
}

/// One attempt's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptOutcome {
    /// What was tried, such as `tcp to host-loopback:discard as 127.0.0.1`.
    pub what: String,
    /// The site that it went to, if it went to one.
    #[serde(default)]
    pub site: Option<Site>,
    /// What the definition expects.
    pub expect: Expect,
    /// The verdict.
    pub verdict: Verdict,
    /// The control that stands behind it, such as `host (127.0.0.1:51423) reached it before and after`.
    pub control: Option<String>,
    /// What the prober said.
    pub said: Option<Said>,
}

/// What a run cost, by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Lab and bottle up.
    #[serde(rename = "launch_us", with = "crate::report::micros")]
    #[schemars(with = "u64")]
    pub launch: Duration,
    /// Leading and trailing controls, as far as nothing else ran beside them.
    #[serde(rename = "controls_us", with = "crate::report::micros")]
    #[schemars(with = "u64")]
    pub controls: Duration,
    /// The batch of attempts.
    #[serde(rename = "attempts_us", with = "crate::report::micros")]
    #[schemars(with = "u64")]
    pub attempts: Duration,
    /// Judging.
    #[serde(rename = "judge_us", with = "crate::report::micros")]
    #[schemars(with = "u64")]
    pub judge: Duration,
    /// Bottle and lab gone.
    #[serde(rename = "teardown_us", with = "crate::report::micros")]
    #[schemars(with = "u64")]
    pub teardown: Duration,
}

/// What a reader needs to know of an outcome at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// As it should be.
    Pass,
    /// A known, referenced leak.
    KnownLeak,
    /// Leaked, or an expectation is not met; also a known leak that is gone.
    Fail,
    /// It cannot be told.
    Error,
    /// Not tried here.
    Skip,
}

impl RunOutcome {
    /// The outcome of a run whose bottle could not be launched: every selected probe is inconclusive, because of
    /// `error`.
    pub fn launch_failed<'a>(
        backend: &str,
        breach: Option<&str>,
        selected: impl IntoIterator<Item = &'a Probe>,
        error: &str,
    ) -> Self {
        let why = format!("no bottle could be launched: {error}");
        Self::inconclusive(backend, breach, selected, &why)
    }

    /// The outcome of a run that found nothing out: every selected probe is inconclusive.
    pub fn inconclusive<'a>(
        backend: &str,
        breach: Option<&str>,
        selected: impl IntoIterator<Item = &'a Probe>,
        why: &str,
    ) -> Self {
        let untried =
            |probe| ProbeOutcome::untried(probe, Verdict::Inconclusive { why: why.to_owned() });
        let mut probes: Vec<_> = selected.into_iter().map(untried).collect();
        probes.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            backend: backend.to_owned(),
            breach: breach.map(str::to_owned),
            probes,
            cost: Cost::default(),
            notes: Vec::new(),
            wiring: Wiring::default(),
            made_of: BTreeMap::new(),
            expected: None,
        }
    }
}

impl RunOutcome {
    /// The outcome of probes that were not tried on `backend`.
    pub fn of_skipped(backend: &str, probes: Vec<ProbeOutcome>) -> Self {
        let none = Self::inconclusive(backend, None, [], "");
        Self { probes, ..none }
    }

    /// Adds the probes of `others` to the runs on the same backend, and runs on further backends as they are.
    pub fn merge(runs: &mut Vec<Self>, others: Vec<Self>) {
        for other in others {
            match runs.iter_mut().find(|run| run.backend == other.backend) {
                Some(run) => {
                    run.probes.extend(other.probes);
                    run.probes.sort_by(|a, b| a.name.cmp(&b.name));
                }
                None => runs.push(other),
            }
        }
    }
}

impl ProbeOutcome {
    /// The outcome of a probe that was not tried, and why.
    pub fn skipped(probe: &Probe, why: String) -> Self {
        Self::untried(probe, Verdict::Skipped { why })
    }

    /// The outcome of a probe of which no attempt was made.
    fn untried(probe: &Probe, verdict: Verdict) -> Self {
        Self {
            name: probe.name.clone(),
            title: probe.title.clone(),
            why: probe.why.clone(),
            severity: probe.severity,
            verdict,
            known_leak: None,
            attempts: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// The outcome at a glance.
    pub fn standing(&self) -> Standing {
        match (&self.verdict, &self.known_leak) {
            // A known leak excuses the attempts that expect it, and no other one.
            (Verdict::Leaked { .. }, Some(_)) if !self.leaks_unexpectedly() => Standing::KnownLeak,
            (Verdict::Reached | Verdict::Contained { .. }, None) => Standing::Pass,
            (Verdict::Reached | Verdict::Contained { .. }, Some(_))
            | (Verdict::Leaked { .. } | Verdict::Unreached { .. }, _) => Standing::Fail,
            (Verdict::Inconclusive { .. }, _) => Standing::Error,
            (Verdict::Skipped { .. }, _) => Standing::Skip,
        }
    }

    fn leaks_unexpectedly(&self) -> bool {
        self.attempts.iter().any(|attempt| {
            matches!(attempt.verdict, Verdict::Leaked { .. }) && attempt.expect != Expect::Leaks
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{attempt, known, leaked, probe};

    #[test]
    fn a_known_leak_excuses_no_other_one() {
        let mut outcome = known(probe("dns", leaked()));
        assert_eq!(outcome.standing(), Standing::KnownLeak);
        outcome.attempts.push(attempt("tcp to internet:443", leaked()));
        assert_eq!(outcome.standing(), Standing::Fail);
    }
}
