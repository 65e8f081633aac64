//! What a sandbox lets out, for a person who has never read our documents: the worst first, each with its evidence and
//! one sentence on how to close it.

use std::collections::BTreeMap;

use super::layout::{Hue, Page, piece, words};
use super::prose::{self, Nonces, clean};
use super::tally::Tally;
use super::terminal::{Style, severity};
use crate::probe::outcome::{AttemptOutcome, ProbeOutcome, RunOutcome};
use crate::probe::verdict::Verdict;

/// What to do about a leak, by where it arrived.
const CLOSE: &[(&str, &str)] = &[
    (
        "real-sockets",
        "Give the sandbox a network namespace of its own: abstract sockets belong to it.",
    ),
    (
        "host-sockets",
        "Do not show the sandbox folders of this machine in which sockets lie, such as /tmp and /run.",
    ),
    (
        "host-gateway",
        "Give the sandbox a network without a way to this machine's addresses, or a firewall rule that refuses them.",
    ),
    (
        "real-loopback",
        "Give the sandbox a network namespace of its own (unshare, --unshare-net, --network none).",
    ),
];

/// The whole summary.
pub fn render(run: &RunOutcome, style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    let mut leaks: Vec<_> = run
        .probes
        .iter()
        .filter(|probe| matches!(probe.verdict, Verdict::Leaked { .. } | Verdict::Unreached { .. }))
        .collect();
    leaks.sort_by_key(|probe| (std::cmp::Reverse(probe.severity), &probe.name));
    if !leaks.is_empty() {
        page.line(0, 2, words(0, Hue::Bad, "Not as it should be:"));
    }
    for probe in leaks {
        leak(&mut page, probe);
    }
    let held = run
        .probes
        .iter()
        .filter(|probe| matches!(probe.verdict, Verdict::Contained { .. } | Verdict::Reached));
    list(
        &mut page,
        Hue::Good,
        "As it should be:",
        held.map(|probe| (as_far_as_tried(probe), None)),
    );
    list(
        &mut page,
        Hue::Unclear,
        "Could not be judged:",
        grouped(run, |verdict| match verdict {
            Verdict::Inconclusive { why } => Some(why),
            _ => None,
        }),
    );
    list(
        &mut page,
        Hue::Faint,
        "Not tried:",
        grouped(run, |verdict| match verdict {
            Verdict::Skipped { why } => Some(why),
            _ => None,
        }),
    );
    for note in &run.notes {
        page.line(0, 2, words(0, Hue::Faint, &format!("note: {}", clean(note))));
    }
    page.gap();
    let tally = Tally::of(std::slice::from_ref(run));
    page.line(0, 2, words(0, Hue::Plain, &tally.to_string()));
    page.finish()
}

/// Its title, and how many of its attempts say so, where some could not be made.
fn as_far_as_tried(probe: &ProbeOutcome) -> String {
    let title = clean(&probe.title);
    let all = probe.attempts.len();
    let skipped = |one: &&AttemptOutcome| matches!(one.verdict, Verdict::Skipped { .. });
    match probe.attempts.iter().filter(skipped).count() {
        0 => title,
        skipped => {
            format!("{title} (by {} of {all} attempts, the others were not tried)", all - skipped)
        }
    }
}

fn leak(page: &mut Page, probe: &ProbeOutcome) {
    let level = severity(probe.severity);
    let mut line = vec![piece(0, Hue::Bad, level)];
    line.extend(words(2, Hue::Heading, &format!("{} does not hold", clean(&probe.name))));
    page.line(2, 4, line);
    page.line(4, 4, words(0, Hue::Plain, &format!("It should be so: {}.", clean(&probe.title))));
    let all = probe.attempts.iter().filter(|one| one.verdict.badness() == probe.verdict.badness());
    let count = format!("({} of {})", all.count(), prose::count(probe.attempts.len(), "attempt"));
    let seen = clean(&prose::probe_reason(probe, Nonces::Short));
    page.line(4, 6, words(0, Hue::Plain, &format!("Seen: {seen} {count}")));
    if let Verdict::Leaked { evidence } = &probe.verdict {
        let close = CLOSE.iter().find(|(site, _)| evidence.witness.starts_with(site));
        if let Some((_, close)) = close {
            page.line(4, 6, words(0, Hue::Plain, &format!("To close it: {close}")));
        }
    }
}

/// Reasons, each once, with the probes that it is given for.
fn grouped(
    run: &RunOutcome,
    why: impl Fn(&Verdict) -> Option<&String>,
) -> Vec<(String, Option<String>)> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for probe in &run.probes {
        if let Some(why) = why(&probe.verdict) {
            groups.entry(clean(why)).or_default().push(clean(&probe.name));
        }
    }
    groups.into_iter().map(|(why, names)| (why, Some(names.join(", ")))).collect()
}

fn list(
    page: &mut Page,
    hue: Hue,
    heading: &str,
    items: impl IntoIterator<Item = (String, Option<String>)>,
) {
    let mut items = items.into_iter().peekable();
    if items.peek().is_none() {
        return;
    }
    page.gap();
    page.line(0, 2, words(0, hue, heading));
    for (text, names) in items {
        let names = names.map(|names| format!(": {names}")).unwrap_or_default();
        page.line(2, 4, words(0, Hue::Plain, &format!("{text}{names}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn a_leak_has_its_evidence_and_hostile_text_stays_on_its_line() {
        let text = render(&samples::everything(), Style::default());
        assert!(text.starts_with("Not as it should be:"), "{text}");
        assert!(text.contains("Seen: ") && text.contains("Could not be judged:"), "{text}");
        let hostile = render(&samples::hostile(), Style::default());
        assert!(!hostile.chars().any(|c| c.is_control() && c != '\n'), "{hostile}");
    }
}
