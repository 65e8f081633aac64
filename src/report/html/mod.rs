//! One self-contained page: a drawing of the run, what leaked, and every attempt.
//!
//! There is no script in it, and its policy lets none run; it loads nothing. Text that somebody else had a hand in goes
//! through `clean` and maud's escaping.

mod drawing;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::compare::{self, Change};
use super::json::{Probe, Report, Run};
use super::prose::{self, Nonces, clean};
use super::text::Untrusted;
use crate::probe::definition::Expect;
use crate::probe::outcome::{AttemptOutcome, Standing};
use crate::probe::verdict::Verdict;

const STYLE: &str = include_str!("style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The page; `changes` since a baseline, where there is one.
pub fn render(report: &Report, changes: Option<&[Change]>) -> String {
    let command: Vec<_> = report.command.iter().map(|word| clean(word)).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "claude-bottle: " (report.in_one_line()) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.brand { "claude-bottle" }
                    h1 { (headline(report)) }
                    p { (report.in_one_line()) }
                    p.meta { code { (command.join(" ")) } " · " (clean(&report.started))
                        @for (name, value) in &report.host { " · " (clean(name)) " " (clean(value)) } }
                }
                main {
                    @if let Some(changes) = changes { (since(changes)) }
                    @for (index, run) in report.runs.iter().enumerate() { (section(run, index)) }
                }
            }
        }
    };
    page.into_string()
}

fn headline(report: &Report) -> &'static str {
    let has_breach = report.runs.iter().any(|run| run.breach.is_some());
    match (has_breach, report.tally.exit_code()) {
        (true, _) if report.exit_code == 0 => "Every hole was noticed as declared",
        (true, _) => "Not every hole was noticed as declared",
        (_, 0) if report.tally.known_leaks > 0 => "Closed, but for what is known",
        (_, 0) => "Closed",
        (_, 1) => "Not closed",
        _ => "Not known to be closed",
    }
}

fn since(changes: &[Change]) -> Markup {
    html! {
        section {
            h2 { "Since the baseline" }
            @if changes.is_empty() { p { "Nothing has changed." } }
            ul { @for change in changes {
                @let (word, text) = compare::told(change);
                li { b class=(if change.is_worse() { "bad" } else { "good" }) { (word) } " " (clean(&text)) }
            } }
        }
    }
}

fn section(run: &Run, index: usize) -> Markup {
    let against = match &run.breach {
        Some(breach) => format!("{} under {breach}", run.backend),
        None => run.backend.clone(),
    };
    html! {
        section {
            h2 { (clean(&against)) }
            (drawing::draw(run, index))
            @for (name, value) in &run.made_of { p.meta { (clean(name)) ": " (clean(value)) } }
            @for note in &run.notes { p.meta { "Note: " (clean(note)) } }
            div.matrix { @for probe in &run.probes { (row(probe, index)) } }
            p.meta { (prose::cost(&run.cost)) }
        }
    }
}

fn row(probe: &Probe, index: usize) -> Markup {
    let outcome = &probe.outcome;
    let class = match (probe.flip, probe.standing) {
        (_, Standing::Error) => "unclear",
        (Some(flip), _) if !flip.is_as_declared() => "bad",
        (Some(flip), _) if flip.flipped => "amber",
        (_, Standing::Pass) => "good",
        (_, Standing::KnownLeak) => "amber",
        (_, Standing::Fail) => "bad",
        (_, Standing::Skip) => "faint",
    };
    let reason = prose::probe_reason(outcome, Nonces::Whole);
    html! {
        details id=(anchor(index, probe)) open[probe.is_wrong()] {
            summary {
                span.probe { (clean(&outcome.name)) }
                span class=(format!("verdict {class}")) { (probe.word()) }
                span.how { (prose::how(outcome)) }
                span.took { @if probe.standing != Standing::Skip { (prose::duration(outcome.took)) } }
            }
            p { b { (clean(&outcome.title)) } " (" (super::terminal::severity(outcome.severity)) ")" }
            p { (clean(&outcome.why)) }
            @if !reason.is_empty() { p.reason { (clean(&reason)) } }
            @if !outcome.attempts.is_empty() {
                div.wide tabindex="0" role="region" aria-label="Attempts" { table {
                    thead { tr { th { "attempt" } th { "verdict" } th { "how, evidence and control" } } }
                    tbody { @for one in &outcome.attempts { tr {
                        td { (short(&one.what, 200)) }
                        td class=(of(one)) { (prose::attempt_verdict(one)) }
                        td { (clean(&prose::attempt(one, true))) }
                    } } }
                } }
            }
        }
    }
}

fn of(attempt: &AttemptOutcome) -> &'static str {
    match &attempt.verdict {
        Verdict::Leaked { .. } if attempt.expect == Expect::Leaks => "amber",
        Verdict::Leaked { .. } | Verdict::Unreached { .. } => "bad",
        Verdict::Inconclusive { .. } => "unclear",
        Verdict::Skipped { .. } => "faint",
        Verdict::Contained { .. } | Verdict::Reached => "good",
    }
}

/// The id of a probe's row: words of definitions need no escaping, and anything else gets none of its own characters in.
fn anchor(index: usize, probe: &Probe) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("run-{index}-{}", probe.outcome.name.chars().map(plain).take(60).collect::<String>())
}

fn short(text: &str, columns: usize) -> String {
    Untrusted::new(text).one_line(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::outcome::RunOutcome;
    use crate::report::json::Context;
    use crate::report::samples;

    fn page(runs: &[RunOutcome]) -> String {
        render(&Report::of(runs, &Context::default(), 0, |_, _, _| false), None)
    }

    #[test]
    fn hostile_text_is_text() {
        const MARKUP: &str = "</title></style><script>x</script>\"><img src=x onerror=y><svg onload=z>]]>\u{202e}\x1b";
        let mut run = samples::everything();
        let tags = |page: &str| page.matches('<').count();
        let before = tags(&page(&[run.clone()]));
        for probe in &mut run.probes {
            probe.title = MARKUP.to_owned();
            probe.why = MARKUP.to_owned();
            for attempt in &mut probe.attempts {
                attempt.what = MARKUP.to_owned();
                attempt.control = Some(MARKUP.to_owned());
                attempt.said.as_mut().unwrap().detail = Some(Untrusted::new(MARKUP));
            }
        }
        run.notes = vec![MARKUP.to_owned()];
        let page = page(&[run]);
        assert!(page.contains("&lt;script&gt;"));
        assert_eq!(tags(&page), before);
        assert!(!page.contains("<script") && !page.contains('\u{202e}') && !page.contains('\x1b'));
    }

    #[test]
    fn nothing_is_loaded_from_anywhere() {
        let page = page(&[samples::everything()]);
        assert!(!page.contains("src=") && !page.contains("@import") && !page.contains("url(http"));
    }
}
