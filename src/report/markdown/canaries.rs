//! Canaries as Markdown.

use std::fmt::Write as _;

use super::{span, span_in_table};
use crate::canary::{CanaryOutcome, Finding};
use crate::report::canaries::sum;
use crate::report::prose;

/// What came of them: a table, and below it why those matter that are not as they were.
pub fn render_canaries(outcomes: &[CanaryOutcome]) -> String {
    let mut text = format!("## claude-bottle: canaries\n\n{}\n", sum(outcomes));
    text.push_str("\n| | canary | | time | |\n|---|---|---|--:|---|\n");
    for CanaryOutcome { name, finding, took, .. } in outcomes {
        let sign = match finding {
            Finding::Unchanged { .. } => "✅",
            Finding::Changed { .. } => "❌",
            Finding::Unreachable { .. } => "❔",
            Finding::Skipped { .. } => "⏭️",
        };
        let _ = writeln!(
            text,
            "| {sign} | {} | {} | {} | {} |",
            span_in_table(name),
            finding.word(),
            prose::duration(*took),
            span_in_table(finding.detail()),
        );
    }
    for CanaryOutcome { name, title, why, finding, .. } in outcomes {
        if matches!(finding, Finding::Changed { .. } | Finding::Unreachable { .. }) {
            let _ = writeln!(text, "\n- **{}** {}", finding.word(), span(name));
            let _ = writeln!(text, "  - {}\n  - {}", span(title), span(why));
        }
    }
    text.push('\n');
    text
}
