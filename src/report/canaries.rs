//! What came of the canaries, for a person.

use super::layout::{Hue, Page, cell, cell_right, words};
use super::prose::{self, clean};
use super::terminal::Style;
use super::text::width;
use crate::canary::outcome::exit_code;
use crate::canary::{CanaryOutcome, Finding};

/// A row per canary: its name, the word for what came of it, its time and the rest; below those that are not as they
/// should be, what is checked and why.
pub fn render_canaries(outcomes: &[CanaryOutcome], style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    let rows: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome, clean(&outcome.name), prose::duration(outcome.took)))
        .collect();
    let names = rows.iter().map(|(_, name, _)| width(name)).max().unwrap_or(0);
    let findings = outcomes.iter().map(|outcome| outcome.finding.word().len()).max().unwrap_or(0);
    let times = rows.iter().map(|(.., time)| width(time)).max().unwrap_or(0);
    for (outcome, name, time) in &rows {
        let time = if is_tried(outcome) { time } else { "" };
        let mut row = vec![
            cell(0, Hue::Plain, name, names),
            cell(2, hue(&outcome.finding), outcome.finding.word(), findings),
            cell_right(2, Hue::Faint, time, times),
        ];
        row.extend(words(2, Hue::Plain, &clean(outcome.finding.detail())));
        page.line(0, names + 2 + findings + 2 + times + 2, row);
        let is_wrong =
            matches!(outcome.finding, Finding::Changed { .. } | Finding::Unreachable { .. });
        if is_wrong || style.verbose > 0 {
            page.line(4, 4, words(0, Hue::Plain, &clean(&outcome.title)));
            page.line(4, 4, words(0, Hue::Faint, &clean(&outcome.why.replace('\n', " "))));
        }
    }
    page.gap();
    let hue = match exit_code(outcomes) {
        0 => Hue::Good,
        1 => Hue::Bad,
        _ => Hue::Unclear,
    };
    page.line(0, 2, words(0, hue, &sum(outcomes)));
    page.finish()
}

fn is_tried(outcome: &CanaryOutcome) -> bool {
    !matches!(outcome.finding, Finding::Skipped { .. })
}

fn hue(finding: &Finding) -> Hue {
    match finding {
        Finding::Unchanged { .. } => Hue::Good,
        Finding::Changed { .. } => Hue::Bad,
        Finding::Unreachable { .. } => Hue::Unclear,
        Finding::Skipped { .. } => Hue::Faint,
    }
}

/// `3 canaries: 2 unchanged, 1 changed`.
pub(super) fn sum(outcomes: &[CanaryOutcome]) -> String {
    let counts = ["unchanged", "CHANGED", "UNREACHABLE", "skipped"].map(|word| {
        (word.to_lowercase(), outcomes.iter().filter(|o| o.finding.word() == word).count())
    });
    let counts = counts.iter().filter(|(_, n)| *n > 0).map(|(word, n)| format!("{n} {word}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let all = match outcomes.len() {
        1 => "1 canary".to_owned(),
        n => format!("{n} canaries"),
    };
    let nothing = "nothing was tried, so nothing is known";
    match (outcomes.is_empty(), outcomes.iter().any(is_tried)) {
        (true, _) => format!("{all}: {nothing}"),
        (_, false) => format!("{all}: {counts}; {nothing}"),
        (_, true) => format!("{all}: {counts}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::report::junit::canaries_to_xml;
    use crate::report::markdown::render_canaries as render_markdown;

    fn outcome(name: &str, finding: Finding) -> CanaryOutcome {
        CanaryOutcome {
            name: name.to_owned(),
            kind: "tool",
            title: format!("The title of {name}"),
            why: "It matters.\nVery much.".to_owned(),
            finding,
            took: Duration::from_millis(12),
        }
    }

    fn everything() -> Vec<CanaryOutcome> {
        vec![
            outcome("docker-cli", Finding::Unchanged { seen: "version 20.10.24".to_owned() }),
            outcome("git", Finding::Changed { what: "no more --version\u{1b}[2J".to_owned() }),
            outcome("registry", Finding::Unreachable { why: "timed out".to_owned() }),
            outcome("smolvm", Finding::Skipped { why: "needs smolvm on PATH".to_owned() }),
        ]
    }

    #[test]
    fn one_of_everything_for_a_person() {
        insta::assert_snapshot!(render_canaries(&everything(), Style::default()));
    }

    #[test]
    fn one_of_everything_for_a_ci_server() {
        let xml = canaries_to_xml(&everything(), SystemTime::UNIX_EPOCH);
        let xml = String::from_utf8(xml).unwrap().replace("><", ">\n<");
        insta::assert_snapshot!(xml);
    }

    #[test]
    fn one_of_everything_for_a_job() {
        insta::assert_snapshot!(render_markdown(&everything()));
    }

    #[test]
    fn nothing_tried_is_nothing_known() {
        let skipped = || outcome("a", Finding::Skipped { why: "no docker".to_owned() });
        assert_eq!(
            sum(&[skipped()]),
            "1 canary: 1 skipped; nothing was tried, so nothing is known"
        );
        assert_eq!(sum(&[]), "0 canaries: nothing was tried, so nothing is known");
        assert_eq!((exit_code(&[]), exit_code(&[skipped()])), (3, 3));
        let xml = canaries_to_xml(&[], SystemTime::UNIX_EPOCH);
        assert!(String::from_utf8(xml).unwrap().contains("name=\"no-canary-ran\""));
    }

    #[test]
    fn a_change_outweighs_what_could_not_be_asked() {
        let [unchanged, changed, unreachable, skipped] = everything().try_into().unwrap();
        assert_eq!(exit_code(&[unchanged.clone(), skipped]), 0);
        assert_eq!(exit_code(&[unchanged, unreachable.clone()]), 3);
        assert_eq!(exit_code(&[unreachable, changed]), 1);
    }
}
