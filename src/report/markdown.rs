//! A summary in GitHub-flavoured Markdown, for a job's page or an issue.
//!
//! Whatever somebody else had a hand in stands in a code span, where nothing is markup, link or mention.

mod canaries;

use std::fmt::Write as _;

pub use self::canaries::render_canaries;
use super::compare::{self, Change};
use super::json::{Probe, Report, Run};
use super::prose::{self, Nonces};
use super::text::Untrusted;
use crate::probe::outcome::Standing;

/// The longest span in columns: a job's summary may have 1 MiB in all.
const SPAN: usize = 400;
/// How many attempts of one probe, or changes, are told.
const TOLD: usize = 5;
const CHANGES: usize = 100;

/// The whole report; `changes` since a baseline, where there is one.
pub fn render(report: &Report, changes: Option<&[Change]>) -> String {
    let mut text = String::from("## claude-bottle\n\n");
    let _ = writeln!(text, "{}", report.in_one_line());
    if let Some(changes) = changes {
        since(&mut text, changes);
    }
    for run in &report.runs {
        one_run(&mut text, run);
    }
    text.push('\n');
    text
}

fn since(text: &mut String, changes: &[Change]) {
    text.push_str("\n### Since the baseline\n\n");
    let mut sorted: Vec<_> = changes.iter().collect();
    sorted.sort_by_key(|change| !change.is_worse());
    for change in sorted.iter().take(CHANGES) {
        let (word, what) = compare::told(change);
        let _ = writeln!(text, "- {word}: {}", span(&what));
    }
    if changes.is_empty() {
        text.push_str("Nothing has changed.\n");
    } else if changes.len() > CHANGES {
        let _ = writeln!(text, "- … and {} more", changes.len() - CHANGES);
    }
}

fn one_run(text: &mut String, run: &Run) {
    let _ = write!(text, "\n### {}", span(&run.backend));
    if let Some(breach) = &run.breach {
        let _ = write!(text, " under {}", span(breach));
    }
    text.push_str("\n\n| | probe | verdict | time | how |\n|---|---|---|--:|---|\n");
    for probe in &run.probes {
        let outcome = &probe.outcome;
        let how = match prose::how(outcome) {
            how if how.is_empty() => span_in_table(&prose::probe_reason(outcome, Nonces::Short)),
            how => how,
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {how} |",
            sign(probe),
            span_in_table(&outcome.name),
            probe.word(),
            prose::duration(outcome.took),
        );
    }
    let found = |probe: &&Probe| {
        probe.is_wrong() || (probe.flip.is_none() && probe.standing == Standing::KnownLeak)
    };
    for probe in run.probes.iter().filter(found) {
        finding(text, probe);
    }
    for note in &run.notes {
        let _ = writeln!(text, "\nNote: {}", span(note));
    }
}

fn sign(probe: &Probe) -> &'static str {
    match (probe.flip, probe.standing) {
        (_, Standing::Error) => return "❔",
        (Some(flip), _) if !flip.is_as_declared() => return "❌",
        (Some(flip), _) if flip.flipped => return "✅",
        _ => {}
    }
    match probe.standing {
        Standing::Pass => "✅",
        Standing::KnownLeak => "🟠",
        Standing::Fail => "❌",
        Standing::Error => "❔",
        Standing::Skip => "⏭️",
    }
}

fn finding(text: &mut String, probe: &Probe) {
    let outcome = &probe.outcome;
    let severity = super::terminal::severity(outcome.severity);
    let reason = prose::probe_reason(outcome, Nonces::Whole);
    let (word, name) = (probe.word(), span(&outcome.name));
    let _ = writeln!(text, "\n- **{word}** {name} ({severity}): {}", span(&reason));
    let _ = writeln!(text, "  - {}", span(&outcome.title));
    for line in prose::culprits(outcome, Nonces::Whole, TOLD) {
        let _ = writeln!(text, "  - {}", span(&line));
    }
}

/// A code span: its fence is longer than any run of backticks in it.
fn span(text: &str) -> String {
    let text = Untrusted::new(text).one_line(SPAN);
    if text.trim().is_empty() {
        return "–".to_owned();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A space on either side is no part of the span, and keeps the text's own backticks off the fence.
    format!("{fence} {text} {fence}")
}

/// The same in a table, where a bar ends a cell even in a code span.
fn span_in_table(text: &str) -> String {
    span(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use pulldown_cmark::{Event, Options, Parser, Tag};

    use super::*;
    use crate::probe::outcome::RunOutcome;
    use crate::report::json::Context;
    use crate::report::samples;

    fn report(runs: &[RunOutcome]) -> Report {
        Report::of(runs, &Context::default(), 0, |_, _, _| false)
    }

    #[test]
    fn one_of_everything() {
        insta::assert_snapshot!(render(&report(&[samples::everything()]), None));
    }

    const MARKUP: &str = "`a``b```c` | x | <script>alert(1)</script> <img src=x onerror=y> \
        [l](https://example.invalid) https://example.invalid @someone #1 **b** \u{202e}\n# h\n- i\n| a | b |";

    /// Cells of all tables, and events that only markup makes.
    fn parsed(text: &str) -> (usize, Vec<String>) {
        let events: Vec<_> = Parser::new_ext(text, Options::ENABLE_TABLES).collect();
        let cells = events.iter().filter(|e| matches!(e, Event::Start(Tag::TableCell))).count();
        let markup = events.iter().filter(|event| {
            matches!(
                event,
                Event::Html(_)
                    | Event::InlineHtml(_)
                    | Event::Start(
                        Tag::Link { .. } | Tag::Image { .. } | Tag::HtmlBlock | Tag::Emphasis
                    )
            ) || matches!(event, Event::Text(text) if text.contains("example.invalid"))
        });
        (cells, markup.map(|event| format!("{event:?}")).collect())
    }

    #[test]
    fn hostile_text_is_text() {
        let tame = report(&[samples::everything()]);
        let mut wild = tame.clone();
        let run = &mut wild.runs[0];
        run.backend = MARKUP.to_owned();
        run.notes = vec![MARKUP.to_owned()];
        for probe in &mut run.probes {
            probe.outcome.name = MARKUP.to_owned();
            probe.outcome.title = MARKUP.to_owned();
            for attempt in &mut probe.outcome.attempts {
                attempt.what = MARKUP.to_owned();
            }
        }
        let (cells, markup) = parsed(&render(&wild, None));
        assert_eq!(markup, Vec::<String>::new());
        assert_eq!(cells, parsed(&render(&tame, None)).0);
        // The parser would have seen it.
        assert!(parsed(MARKUP).1.len() > 2);
    }
}
