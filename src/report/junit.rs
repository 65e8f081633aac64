//! Verdicts as JUnit XML, for the dashboards of CI servers.
//!
//! One suite per run, named after its backend; one case per probe.
//!
//! | standing | element |
//! |---|---|
//! | contained, reached | none: the case passes |
//! | a known leak | none, and the output starts with `known leak:` and where it is documented |
//! | leaked, not reached, a known leak that is gone | `<failure>` |
//! | inconclusive | `<error>` |
//! | skipped | `<skipped>`, its reason both in `message` and as its text: GitLab reads the latter |
//!
//! A case's `system-out` holds a line per attempt.
//!
//! The format has no specification; ours is valid by `junit-10.xsd` of Jenkins' xUnit plugin, the strictest of those
//! that read it. It has no properties of a case.

mod canaries;
mod document;

use std::time::{Duration, SystemTime};

use document::{Case, Outcome, Suite, XmlText};

pub use canaries::canaries_to_xml;

use super::prose::{self, Nonces};
use super::terminal;
use crate::probe::outcome::{ProbeOutcome, RunOutcome, Standing};
use crate::probe::verdict::Verdict;

/// All runs as one XML document, `started` being its time stamp.
///
/// Where no run has a probe, not even a skipped one, there is one case, `no-probe-ran`, and it is an error: an empty
/// document reads as success.
pub fn to_xml(runs: &[RunOutcome], started: SystemTime) -> Vec<u8> {
    let mut suites: Vec<_> = runs.iter().map(suite).collect();
    if runs.iter().all(|run| run.probes.is_empty()) {
        suites.push(nothing("probe", "probes"));
    }
    document::write(suites, started)
}

fn suite(run: &RunOutcome) -> Suite {
    let name = match &run.breach {
        None => run.backend.clone(),
        Some(breach) => format!("{}+{breach}", run.backend),
    };
    let class = XmlText::line(&format!("probes.{name}"));
    let mut out = vec![prose::cost(&run.cost)];
    out.extend(run.made_of.iter().map(|(name, value)| format!("made of {name} {value}")));
    out.extend(run.notes.iter().map(|note| format!("note: {note}")));
    Suite {
        name: XmlText::line(&name),
        cases: run.probes.iter().map(|probe| case(class.clone(), probe)).collect(),
        out: XmlText::lines(out),
    }
}

/// The suite of a run of nothing: an empty document reads as success.
fn nothing(what: &str, class: &str) -> Suite {
    let reason = format!("no {what} was selected, so nothing is proven");
    Suite {
        name: XmlText::line(class),
        cases: vec![Case {
            class: XmlText::line(class),
            name: XmlText::line(&format!("no-{what}-ran")),
            took: Duration::ZERO,
            outcome: Outcome::Error {
                kind: XmlText::line("nothing-ran"),
                message: XmlText::line(&reason),
                body: XmlText::block(&reason),
            },
            out: None,
        }],
        out: XmlText::line(""),
    }
}

fn case(class: XmlText, probe: &ProbeOutcome) -> Case {
    let reason = prose::probe_reason(probe, Nonces::Whole);
    let message = XmlText::line(&reason);
    let outcome = match probe.standing() {
        Standing::Pass | Standing::KnownLeak => Outcome::Pass,
        Standing::Skip => Outcome::Skipped { message, body: XmlText::block(&reason) },
        Standing::Fail => Outcome::Failure {
            kind: XmlText::line(kind(probe)),
            message,
            body: body(probe, &reason),
        },
        Standing::Error => {
            Outcome::Error { kind: XmlText::line(kind(probe)), message, body: body(probe, &reason) }
        }
    };
    Case { class, name: XmlText::line(&probe.name), took: probe.took, outcome, out: output(probe) }
}

fn kind(probe: &ProbeOutcome) -> &'static str {
    match &probe.verdict {
        Verdict::Leaked { .. } => "leaked",
        Verdict::Unreached { .. } => "unreached",
        Verdict::Inconclusive { .. } => "inconclusive",
        Verdict::Contained { .. } | Verdict::Reached => "known-leak-gone",
        Verdict::Skipped { .. } => "skipped",
    }
}

/// What a failure means, for who has nothing but the dashboard.
fn body(probe: &ProbeOutcome, reason: &str) -> XmlText {
    let title = format!("{} ({})", probe.title, terminal::severity(probe.severity));
    let mut lines = vec![reason.to_owned()];
    lines.extend(prose::culprits(probe, Nonces::Whole, usize::MAX));
    lines.extend([String::new(), title, probe.why.clone()]);
    lines.truncate(lines.len() - usize::from(probe.why.is_empty()));
    XmlText::lines(lines)
}

fn output(probe: &ProbeOutcome) -> Option<XmlText> {
    let known = match (probe.standing(), &probe.known_leak) {
        (Standing::KnownLeak, Some(reference)) => {
            let reason = prose::probe_reason(probe, Nonces::Whole);
            Some(format!("known leak: {reference}: {reason}"))
        }
        _ => None,
    };
    let attempts = probe.attempts.iter().map(|attempt| {
        let word = attempt.verdict.word();
        let rest = prose::attempt(attempt, true);
        format!("{}: {word}; {rest}", attempt.what)
    });
    let lines: Vec<_> = known.into_iter().chain(attempts).collect();
    (!lines.is_empty()).then(|| XmlText::lines(lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::definition::{AttemptDefinition, Expect, Method, Probe, Severity};
    use crate::report::samples;

    /// 2026-01-02T03:04:05.678Z
    fn started() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_678)
    }

    /// The document, each element that is no text on a line of its own.
    fn xml(runs: &[RunOutcome]) -> String {
        let xml = String::from_utf8(to_xml(runs, started())).unwrap();
        let lines = xml.split("]]>").map(|part| {
            let (elements, text) = part.split_once("<![CDATA[").unwrap_or((part, ""));
            let elements = elements.replace("><", ">\n<");
            if part.contains("<![CDATA[") { format!("{elements}<![CDATA[{text}") } else { elements }
        });
        lines.collect::<Vec<_>>().join("]]>")
    }

    #[test]
    fn one_of_everything() {
        insta::assert_snapshot!(xml(&[samples::everything()]));
    }

    #[test]
    fn hostile_text_is_text() {
        insta::assert_snapshot!(xml(&[samples::hostile()]));
    }

    #[test]
    fn nothing_is_an_error() {
        insta::assert_snapshot!(xml(&[]), @r#"
        <?xml version="1.0" encoding="utf-8"?>
        <testsuites>
        <testsuite id="0" name="probes" package="probes" tests="1" errors="1" failures="0" hostname="localhost" timestamp="2026-01-02T03:04:05Z" time="0">
        <testcase name="no-probe-ran" time="0" classname="probes">
        <error type="nothing-ran" message="no probe was selected, so nothing is proven"><![CDATA[no probe was selected, so nothing is proven]]></error>
        </testcase>
        </testsuite>
        </testsuites>
        "#);
        assert!(xml(&[samples::run(vec![])]).contains("<testcase name=\"no-probe-ran\""));
    }

    #[test]
    fn a_backend_without_probes_beside_one_that_has_some_is_no_error() {
        let runs =
            [samples::run(vec![]), samples::run(vec![samples::probe("a", samples::reached())])];
        assert!(!xml(&runs).contains("no-probe-ran"));
    }

    #[test]
    fn what_a_bottle_was_made_of_is_told() {
        let mut run = samples::run(vec![samples::probe("a", samples::reached())]);
        run.made_of.insert("smolvm".to_owned(), "1.32.2".to_owned());
        assert!(xml(&[run]).contains("\nmade of smolvm 1.32.2]]></system-out>"));
    }

    #[test]
    fn a_launch_that_failed_is_an_error_of_each_probe() {
        let probe = |name: &str| Probe {
            name: name.to_owned(),
            file: None,
            title: format!("The title of {name}"),
            why: String::new(),
            severity: Severity::High,
            tags: vec![],
            references: vec![],
            proven_by: vec![],
            needs: vec![],
            on: std::collections::BTreeMap::new(),
            attempts: vec![AttemptDefinition {
                method: Method::Exec,
                to: None,
                request: None,
                expect: Expect::Reached,
                only_on: Vec::new(),
                how: vec![],
            }],
        };
        let selected = [probe("smoke-echo"), probe("loopback-reach")];
        let run = RunOutcome::launch_failed("docker", None, &selected, "no such image\nat all");
        assert_eq!(crate::report::exit_code(std::slice::from_ref(&run)), 3);
        insta::assert_snapshot!(xml(&[run]), @r#"
        <?xml version="1.0" encoding="utf-8"?>
        <testsuites>
        <testsuite id="0" name="docker" package="docker" tests="2" errors="2" failures="0" hostname="localhost" timestamp="2026-01-02T03:04:05Z" time="0">
        <testcase name="loopback-reach" time="0" classname="probes.docker">
        <error type="inconclusive" message="no bottle could be launched: no such image⏎at all"><![CDATA[no bottle could be launched: no such image⏎at all

        The title of loopback-reach (high)]]></error>
        </testcase>
        <testcase name="smoke-echo" time="0" classname="probes.docker">
        <error type="inconclusive" message="no bottle could be launched: no such image⏎at all"><![CDATA[no bottle could be launched: no such image⏎at all

        The title of smoke-echo (high)]]></error>
        </testcase>
        <system-out><![CDATA[launch 0 ms · controls 0 ms · attempts 0 ms · judge 0 ms · teardown 0 ms]]></system-out>
        </testsuite>
        </testsuites>
        "#);
    }
}
