//! Canaries as JUnit XML.

use std::time::SystemTime;

use super::document::{self, Case, Outcome, Suite, XmlText};
use super::nothing;
use crate::canary::{CanaryOutcome, Finding};

/// All canaries as one XML document, `started` being its time stamp: one suite, one case per canary.
///
/// | finding | element |
/// |---|---|
/// | unchanged | none: the case passes |
/// | changed | `<failure>` |
/// | could not be asked | `<error>` |
/// | skipped | `<skipped>` |
///
/// Without any canary there is one case, `no-canary-ran`, and it is an error.
pub fn canaries_to_xml(outcomes: &[CanaryOutcome], started: SystemTime) -> Vec<u8> {
    let suite = if outcomes.is_empty() {
        nothing("canary", "canaries")
    } else {
        let (name, out) = (XmlText::line("canaries"), XmlText::line(""));
        Suite { name, cases: outcomes.iter().map(case).collect(), out }
    };
    document::write(vec![suite], started)
}

fn case(canary: &CanaryOutcome) -> Case {
    let CanaryOutcome { name, kind, title, why, finding, took } = canary;
    let detail = finding.detail();
    let message = XmlText::line(detail);
    // What it means, for who has nothing but the dashboard.
    let body = XmlText::lines([detail, "", title, why].map(str::to_owned));
    let kind_of = |word: &str| XmlText::line(word);
    let outcome = match finding {
        Finding::Unchanged { .. } => Outcome::Pass,
        Finding::Changed { .. } => Outcome::Failure { kind: kind_of("changed"), message, body },
        Finding::Unreachable { .. } => {
            Outcome::Error { kind: kind_of("unreachable"), message, body }
        }
        Finding::Skipped { .. } => Outcome::Skipped { message, body: XmlText::block(detail) },
    };
    let seen = matches!(finding, Finding::Unchanged { .. }).then(|| XmlText::line(detail));
    Case {
        class: XmlText::line(&format!("canaries.{kind}")),
        name: XmlText::line(name),
        took: *took,
        outcome,
        out: seen,
    }
}
