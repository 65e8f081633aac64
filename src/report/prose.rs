//! The sentences that more than one report uses.
//!
//! What they return is not sanitised: whoever puts it into a report does that.

use std::time::Duration;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::How;

use super::text::Untrusted;
use crate::probe::definition::Expect;
use crate::probe::outcome::{AttemptOutcome, Cost, ProbeOutcome, RunOutcome, Standing};
use crate::probe::verdict::{Evidence, Said, Verdict};

/// The longest line, in columns, that a guest may add to an attempt.
const DETAIL: usize = 200;

/// How many characters of a nonce a person needs to find it again in the JSON report.
const NONCE_CHARACTERS: usize = 8;

/// A duration as a person reads it: `0.1 ms`, `12 ms`, `1.53 s`.
pub(super) fn duration(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    let (number, unit) = if ms < 9.95 {
        (format!("{ms:.1}"), "ms")
    } else if ms < 999.5 {
        (format!("{ms:.0}"), "ms")
    } else {
        (format!("{:.2}", ms / 1000.0), "s")
    };
    let number = match number.split_once('.') {
        Some(_) => number.trim_end_matches('0').trim_end_matches('.'),
        None => &number,
    };
    format!("{number} {unit}")
}

/// `1 probe`, `2 probes`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// How much of a nonce is told.
#[derive(Clone, Copy)]
pub(super) enum Nonces {
    Short,
    Whole,
}

/// Who saw what from whom.
pub(super) fn evidence(evidence: &Evidence, nonces: Nonces) -> String {
    let Evidence { witness, peer, saw, at } = evidence;
    let from = peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
    let after = duration(*at);
    match saw.parse::<Nonce>() {
        Ok(nonce) => {
            let nonce = match nonces {
                Nonces::Whole => nonce.to_string(),
                Nonces::Short => format!("{}…", &nonce.as_str()[..NONCE_CHARACTERS]),
            };
            format!("{witness} saw nonce {nonce}{from} after {after}")
        }
        Err(_) => format!("{witness} after {after}: {saw}{from}"),
    }
}

/// What there is to say of a verdict besides its word; empty for what is as it should be.
pub(super) fn reason(verdict: &Verdict, nonces: Nonces) -> String {
    match verdict {
        Verdict::Reached | Verdict::Contained { .. } => String::new(),
        Verdict::Leaked { evidence: seen } => evidence(seen, nonces),
        Verdict::Unreached { why } | Verdict::Inconclusive { why } | Verdict::Skipped { why } => {
            why.clone()
        }
    }
}

/// The one word for a probe: its verdict's, unless a leak is known.
pub(super) fn word(probe: &ProbeOutcome) -> &'static str {
    match probe.standing() {
        Standing::KnownLeak => "known leak",
        Standing::Fail if is_leak_gone(probe) => "LEAK GONE",
        _ => probe.verdict.word(),
    }
}

/// Whether a leak was expected and there is none.
pub(super) fn is_leak_gone(probe: &ProbeOutcome) -> bool {
    probe.known_leak.is_some()
        && matches!(probe.verdict, Verdict::Reached | Verdict::Contained { .. })
}

/// The reason of a probe's standing.
pub(super) fn probe_reason(probe: &ProbeOutcome, nonces: Nonces) -> String {
    match &probe.known_leak {
        Some(reference) if is_leak_gone(probe) => {
            format!("the known leak is gone, so its definition is out of date ({reference})")
        }
        _ => reason(&probe.verdict, nonces),
    }
}

/// How a probe's attempts ended, the most frequent first: `refused ×21, unreachable ×7`.
pub(super) fn how(probe: &ProbeOutcome) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for attempt in &probe.attempts {
        let word = attempt_word(attempt);
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, n)) => *n += 1,
            None => counts.push((word, 1)),
        }
    }
    counts.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    let counts: Vec<_> = counts.into_iter().map(|(word, n)| format!("{word} ×{n}")).collect();
    counts.join(", ")
}

/// The one word for an attempt: its verdict's, unless that leak is known.
pub(super) fn attempt_verdict(attempt: &AttemptOutcome) -> &'static str {
    match (&attempt.verdict, attempt.expect) {
        (Verdict::Leaked { .. }, Expect::Leaks) => "leaks as known",
        (verdict, _) => verdict.word(),
    }
}

fn attempt_word(attempt: &AttemptOutcome) -> &'static str {
    match &attempt.verdict {
        Verdict::Contained { how } => how.as_str(),
        Verdict::Reached => attempt.said.as_ref().map_or("reached", |said| said.how.as_str()),
        Verdict::Unreached { .. } => "unreached",
        Verdict::Inconclusive { .. } => "inconclusive",
        Verdict::Leaked { .. } => "leaked",
        Verdict::Skipped { .. } => "skipped",
    }
}

/// What there is to say of an attempt behind its verdict's word: how it ended, the reason, and with `all` its
/// control and what the guest said.
pub(super) fn attempt(attempt: &AttemptOutcome, all: bool) -> String {
    let AttemptOutcome { what: _, site: _, expect: _, verdict, control, said } = attempt;
    let mut parts = Vec::new();
    // A guest that tells what the verdict tells adds its errno; one that tells something else is quoted.
    let agrees = match (verdict, said) {
        (Verdict::Contained { how }, Some(said)) => *how == said.how,
        (Verdict::Reached, Some(said)) => said.how == How::Answered,
        _ => false,
    };
    if let (Verdict::Contained { how }, false) = (verdict, agrees) {
        parts.push(how.to_string());
    }
    let reason = reason(verdict, Nonces::Whole);
    if !reason.is_empty() {
        parts.push(reason);
    }
    if let Some(said) = said {
        let Said { how, errno, took, detail: _ } = said;
        let errno = errno.map(|errno| format!(" (errno {errno})")).unwrap_or_default();
        let quote = if agrees { "" } else { "the guest says " };
        parts.push(format!("{quote}{how}{errno}"));
        parts.push(duration(*took));
    }
    if let (true, Some(control)) = (all, control) {
        parts.push(format!("control: {control}"));
    }
    // The last word, so that it cannot pass for the rest of the line.
    if let (true, Some(detail)) = (all, detail(attempt)) {
        parts.push(format!("the guest adds {detail}"));
    }
    parts.join("; ")
}

/// What the guest said of an attempt beyond how it ended, quoted and made harmless.
pub(super) fn detail(attempt: &AttemptOutcome) -> Option<String> {
    let detail = attempt.said.as_ref()?.detail.as_ref()?;
    Some(format!("“{}”", detail.one_line(DETAIL)))
}

/// The attempts behind a probe's verdict, where it is not the good one: what was tried, and the reason where it is
/// another than the probe's. At most `max` of them, and how many more there are.
pub(super) fn culprits(probe: &ProbeOutcome, nonces: Nonces, max: usize) -> Vec<String> {
    if matches!(probe.verdict, Verdict::Reached | Verdict::Contained { .. }) {
        return vec![];
    }
    let all: Vec<_> = probe
        .attempts
        .iter()
        .filter(|attempt| attempt.verdict.badness() == probe.verdict.badness())
        .collect();
    let mut lines: Vec<_> = all
        .iter()
        .take(max)
        .map(|attempt| {
            let what = &attempt.what;
            if attempt.verdict == probe.verdict {
                what.clone()
            } else {
                format!("{what}: {}", reason(&attempt.verdict, nonces))
            }
        })
        .collect();
    if all.len() > max {
        lines.push(format!("… and {}", count(all.len() - max, "more attempt")));
    }
    lines
}

/// What a run cost, by phase.
pub(super) fn cost(cost: &Cost) -> String {
    let Cost { launch, controls, attempts, judge, teardown } = *cost;
    let phases = [
        ("launch", launch),
        ("controls", controls),
        ("attempts", attempts),
        ("judge", judge),
        ("teardown", teardown),
    ];
    phases.map(|(phase, took)| format!("{phase} {}", duration(took))).join(" · ")
}

/// What a run was made against: `namespace`, `namespace under default-route`.
pub(super) fn against(run: &RunOutcome) -> String {
    match &run.breach {
        None => run.backend.clone(),
        Some(breach) => format!("{} under {breach}", run.backend),
    }
}

/// A guest, or a definition, had a hand in `text`: its harmless form on one line.
pub(super) fn clean(text: &str) -> String {
    Untrusted::new(text).one_line(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_two_or_three_digits() {
        let table = [
            (0, "0 ms"),
            (49, "0 ms"),
            (100, "0.1 ms"),
            (9_100, "9.1 ms"),
            (2_000, "2 ms"),
            (9_949, "9.9 ms"),
            (9_951, "10 ms"),
            (12_345, "12 ms"),
            (100_000, "100 ms"),
            (999_499, "999 ms"),
            (999_501, "1 s"),
            (1_530_000, "1.53 s"),
            (61_000_000, "61 s"),
        ];
        for (us, text) in table {
            assert_eq!(duration(Duration::from_micros(us)), text, "{us}");
        }
        assert_eq!(duration(Duration::from_secs(100)), "100 s");
    }
}
