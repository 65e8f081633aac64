//! What has changed from one report to the next.
//!
//! Per probe three facts count: whether it is there, whether it has a verdict, and how bad that is. Something got *worse*
//! where a probe is gone, lost its verdict, or shows a leak that was not there; it got *better* where the same comparison the
//! other way round calls it worse. An attempt alone counts where it leaks now and did not before; that others of a probe
//! were or were not made here, such as those that only root can make, is no change.

use std::collections::{BTreeMap, BTreeSet};

use super::json::{Probe, Report};
use super::layout::{Hue, Page, piece, words};
use super::prose::{self, Nonces, clean, count};
use super::terminal::Style;
use crate::probe::outcome::{AttemptOutcome, Standing};
use crate::probe::verdict::Verdict;

/// What something was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    word: String,
    reason: String,
    /// Whether there is a verdict at all.
    is_judged: bool,
    badness: Badness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Badness {
    Nothing,
    KnownLeak,
    Unmet,
    Leak,
}

/// What is compared: a probe on a backend, or one attempt of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The backend, and the breach if there was one.
    pub against: String,
    /// The probe.
    pub probe: String,
    /// The attempt; none: the probe as a whole.
    pub attempt: Option<String>,
}

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub subject: Subject,
    /// How it was; none: it was not there.
    pub before: Option<State>,
    /// How it is; none: it is gone.
    pub after: Option<State>,
}

impl Change {
    /// Whether it got worse. Something may be worse in one way and better in another: a leak of which nothing is known any
    /// more.
    pub fn is_worse(&self) -> bool {
        is_worse(self.before.as_ref(), self.after.as_ref())
    }

    /// Whether it got better.
    pub fn is_better(&self) -> bool {
        is_worse(self.after.as_ref(), self.before.as_ref())
    }

    /// Whether it leaks, or fails, more than before.
    fn is_new_failure(&self) -> bool {
        badness(self.after.as_ref()) > badness(self.before.as_ref())
    }
}

fn badness(state: Option<&State>) -> Badness {
    state.map_or(Badness::Nothing, |state| state.badness)
}

fn is_worse(before: Option<&State>, after: Option<&State>) -> bool {
    let is_gone = before.is_some() && after.is_none();
    let is_judged = |state: Option<&State>| state.is_none_or(|state| state.is_judged);
    let lost = before.is_some_and(|state| state.is_judged) && !is_judged(after);
    is_gone || lost || badness(after) > badness(before)
}

/// Everything that is not as it was, sorted by what it is.
pub fn compare(before: &Report, after: &Report) -> Vec<Change> {
    let (old, new) = (states(before), states(after));
    let subjects: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut changes = Vec::new();
    for subject in subjects {
        let change = Change {
            subject: subject.clone(),
            before: old.get(subject).cloned(),
            after: new.get(subject).cloned(),
        };
        let probe = Subject { attempt: None, ..subject.clone() };
        let is_told = if subject.attempt.is_none() {
            change.is_worse() || change.is_better()
        } else {
            // That of its probe tells the rest.
            let both = [badness(change.before.as_ref()), badness(change.after.as_ref())];
            let of_probe = [badness(old.get(&probe)), badness(new.get(&probe))];
            both[0] != both[1] && of_probe[0] == of_probe[1]
        };
        if is_told {
            changes.push(change);
        }
    }
    changes
}

/// The exit code: 1 where something fails that did not, 3 where something is no longer known, else 0.
pub fn exit_code(changes: &[Change]) -> u8 {
    let worse = || changes.iter().filter(|change| change.is_worse());
    match worse().count() {
        0 => 0,
        _ if worse().any(Change::is_new_failure) => 1,
        _ => 3,
    }
}

/// Leaves out of `before` the probes that `after` does not have: those that were not selected are not gone.
pub fn keep_only(before: &mut Report, after: &Report) {
    for run in &mut before.runs {
        let of =
            |new: &&super::json::Run| (&new.backend, &new.breach) == (&run.backend, &run.breach);
        let known: BTreeSet<_> = after
            .runs
            .iter()
            .filter(of)
            .flat_map(|new| &new.probes)
            .map(|probe| probe.outcome.name.clone())
            .collect();
        run.probes.retain(|probe| known.contains(&probe.outcome.name));
    }
}

fn states(report: &Report) -> BTreeMap<Subject, State> {
    let mut states: BTreeMap<Subject, State> = BTreeMap::new();
    let mut add = |subject: Subject, state: State| {
        // Should something be there twice, the worse counts.
        match states.get(&subject) {
            Some(known) if !is_worse(Some(known), Some(&state)) => {}
            _ => drop(states.insert(subject, state)),
        }
    };
    for run in &report.runs {
        let against = match &run.breach {
            Some(breach) => format!("{} under {breach}", run.backend),
            None => run.backend.clone(),
        };
        for probe in &run.probes {
            let name = probe.outcome.name.clone();
            let of = |attempt| Subject { against: against.clone(), probe: name.clone(), attempt };
            add(of(None), of_probe(probe));
            if probe.flip.is_none() {
                for one in &probe.outcome.attempts {
                    add(
                        of(Some(one.what.clone())),
                        of_attempt(one, probe.outcome.known_leak.as_deref()),
                    );
                }
            }
        }
    }
    states
}

fn of_probe(probe: &Probe) -> State {
    let outcome = &probe.outcome;
    let is_judged = !matches!(outcome.standing(), Standing::Error | Standing::Skip);
    if let Some(flip) = probe.flip {
        // Under a breach it is the proof that counts.
        let word = if flip.flipped { "noticed the breach" } else { "did not notice the breach" };
        let badness = if flip.is_as_declared() { Badness::Nothing } else { Badness::Unmet };
        let reason = prose::reason(&outcome.verdict, Nonces::Short);
        return State { word: word.to_owned(), reason, is_judged, badness };
    }
    let badness = match (outcome.standing(), &outcome.verdict) {
        (Standing::KnownLeak, _) => Badness::KnownLeak,
        (Standing::Fail, Verdict::Leaked { .. }) => Badness::Leak,
        (Standing::Fail, Verdict::Unreached { .. }) => Badness::Unmet,
        _ => Badness::Nothing,
    };
    let reason = prose::probe_reason(outcome, Nonces::Short);
    State { word: prose::word(outcome).to_owned(), reason, is_judged, badness }
}

fn of_attempt(attempt: &AttemptOutcome, known_leak: Option<&str>) -> State {
    use crate::probe::definition::Expect;
    let is_known = known_leak.is_some() && attempt.expect == Expect::Leaks;
    let (is_judged, badness) = match &attempt.verdict {
        Verdict::Leaked { .. } if is_known => (true, Badness::KnownLeak),
        Verdict::Leaked { .. } => (true, Badness::Leak),
        Verdict::Unreached { .. } => (true, Badness::Unmet),
        Verdict::Contained { .. } | Verdict::Reached => (true, Badness::Nothing),
        Verdict::Inconclusive { .. } | Verdict::Skipped { .. } => (false, Badness::Nothing),
    };
    let reason = prose::reason(&attempt.verdict, Nonces::Short);
    State { word: attempt.verdict.word().to_owned(), reason, is_judged, badness }
}

/// What a change is called, from where to where, and why: plain text that is not yet made harmless.
pub(super) fn told(change: &Change) -> (&'static str, String) {
    let word = match (change.is_worse(), change.is_better()) {
        (true, _) => "worse",
        (false, true) => "better",
        (false, false) => "changed",
    };
    let Subject { against, probe, attempt } = &change.subject;
    let attempt = attempt.as_ref().map(|what| format!(": {what}")).unwrap_or_default();
    let state = |state: &Option<State>, none: &str| match state {
        Some(state) => state.word.clone(),
        None => none.to_owned(),
    };
    let (from, to) = (state(&change.before, "not there"), state(&change.after, "gone"));
    let reason = change.after.as_ref().map(|state| state.reason.as_str()).unwrap_or_default();
    let dash = if reason.is_empty() { "" } else { " — " };
    (word, format!("{against}: {probe}{attempt}: {from} → {to}{dash}{reason}"))
}

/// A line per change, the worse first, and one that counts them.
pub fn render(changes: &[Change], style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    let mut sorted: Vec<_> = changes.iter().collect();
    sorted.sort_by_key(|change| !change.is_worse());
    for change in sorted {
        let (word, text) = told(change);
        let hue = if change.is_worse() { Hue::Bad } else { Hue::Good };
        let mut line = vec![piece(0, hue, word)];
        line.extend(words(2, Hue::Plain, &clean(&text)));
        page.line(2, 4, line);
    }
    let worse = changes.iter().filter(|change| change.is_worse()).count();
    let better = changes.len() - worse;
    let (hue, text) = match (worse, better) {
        (0, 0) => (Hue::Good, "nothing has changed".to_owned()),
        (0, _) => (Hue::Good, format!("{}: {better} better", count(changes.len(), "change"))),
        _ => {
            let changes = count(changes.len(), "change");
            (Hue::Bad, format!("{changes}: {worse} worse, {better} better"))
        }
    };
    page.line(0, 2, words(0, hue, &text));
    page.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::outcome::{ProbeOutcome, RunOutcome};
    use crate::report::json::Context;
    use crate::report::samples::{
        attempt, contained, inconclusive, known, leaked, probe, probe_of, reached, run, skipped,
        unreached,
    };

    fn report(probes: Vec<ProbeOutcome>) -> Report {
        under(None, probes)
    }

    fn under(breach: Option<&str>, probes: Vec<ProbeOutcome>) -> Report {
        let run = RunOutcome { breach: breach.map(Into::into), ..run(probes) };
        Report::of(&[run], &Context::default(), 0, |_, _, _| true)
    }

    fn kinds() -> Vec<Option<ProbeOutcome>> {
        vec![
            None,
            Some(probe("a", contained())),
            Some(probe("a", reached())),
            Some(known(probe("a", leaked()))),
            Some(known(probe("a", contained()))),
            Some(probe("a", unreached("x"))),
            Some(probe("a", leaked())),
            Some(probe("a", inconclusive("x"))),
            Some(probe("a", skipped("x"))),
        ]
    }

    /// A row per state before, a column per state after: exit code 1, 3 or 0; `+` where it is better.
    #[test]
    fn every_step_from_one_state_to_another() {
        let table = kinds().into_iter().map(|before| {
            let cells = kinds().into_iter().map(|after| {
                let both = [&before, &after].map(|one| report(one.iter().cloned().collect()));
                let changes = compare(&both[0], &both[1]);
                match (exit_code(&changes), changes.iter().any(Change::is_better)) {
                    (0, true) => "+".to_owned(),
                    (0, false) => ".".to_owned(),
                    (code, _) => code.to_string(),
                }
            });
            cells.collect::<Vec<_>>().join(" ")
        });
        let table = table.collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(table);
    }

    #[test]
    fn one_more_way_out_of_a_probe_that_leaks_already_is_worse() {
        let of = |second: Verdict| {
            let attempts = vec![attempt("tcp", leaked()), attempt("udp", second)];
            report(vec![probe_of("a", leaked(), attempts)])
        };
        let changes = compare(&of(contained()), &of(leaked()));
        assert_eq!(exit_code(&changes), 1);
        assert_eq!(changes[0].subject.attempt.as_deref(), Some("udp"));
        assert!(compare(&of(contained()), &of(skipped("no root"))).is_empty());
    }

    #[test]
    fn under_a_breach_a_probe_that_no_longer_notices_is_worse() {
        let [blind, sees] =
            [contained(), leaked()].map(|v| under(Some("hole"), vec![probe("a", v)]));
        assert_eq!(exit_code(&compare(&sees, &blind)), 1);
        assert_eq!(exit_code(&compare(&blind, &sees)), 0);
    }

    #[test]
    fn changes_are_told_the_worse_first() {
        let before =
            report(vec![probe("a", leaked()), probe("b", contained()), probe("c", reached())]);
        let after =
            report(vec![probe("a", contained()), probe("b", leaked()), probe("d\x1b", leaked())]);
        insta::assert_snapshot!(render(&compare(&before, &after), Style::default()));
        assert_eq!(render(&[], Style::default()), "nothing has changed\n");
    }

    fn probes() -> impl Strategy<Value = Vec<ProbeOutcome>> {
        let verdicts = prop_oneof![
            Just(contained()),
            Just(reached()),
            Just(leaked()),
            Just(unreached("x")),
            Just(inconclusive("x")),
            Just(skipped("x")),
        ];
        let attempts = prop::collection::vec(("[st]", verdicts.clone()), 0..3);
        let one = ("[a-c]", verdicts, attempts, any::<bool>()).prop_map(
            |(name, verdict, tries, is_known)| {
                let attempts =
                    tries.into_iter().map(|(what, verdict)| attempt(&what, verdict)).collect();
                let one = probe_of(&name, verdict, attempts);
                if is_known { known(one) } else { one }
            },
        );
        prop::collection::vec(one, 0..4)
    }

    proptest! {
        #[test]
        fn nothing_differs_from_itself(probes in probes()) {
            let one = report(probes);
            prop_assert_eq!(compare(&one, &one), vec![]);
        }

        #[test]
        fn worse_and_better_are_mirror_images(a in probes(), b in probes()) {
            let (a, b) = (report(a), report(b));
            let pick = |changes: Vec<Change>, which: fn(&Change) -> bool| {
                let subjects = changes.into_iter().filter(which).map(|change| change.subject);
                subjects.collect::<Vec<_>>()
            };
            prop_assert_eq!(
                pick(compare(&a, &b), Change::is_worse),
                pick(compare(&b, &a), Change::is_better)
            );
        }
    }
}
