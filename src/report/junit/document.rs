//! The XML itself. Only here is `junit-report` spoken to, and it is handed nothing but [`XmlText`].
//!
//! `junit-report` writes control characters as they are, which makes the document malformed, and does not escape the
//! end of a CDATA section, which would let a guest's output forge cases.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use junit_report::{OffsetDateTime, Report, TestCase, TestResult, TestSuite};

use crate::report::text::Untrusted;

/// The longest attribute in columns.
const ATTRIBUTE: usize = 1024;

/// Text that no XML parser, and no CI server that reads it, can take for anything but text.
#[derive(Debug, Clone)]
pub(super) struct XmlText(String);

impl XmlText {
    /// One line, for an attribute: parsers turn an attribute's newlines into spaces.
    pub(super) fn line(text: &str) -> Self {
        Self(Untrusted::new(text).one_line(ATTRIBUTE))
    }

    /// Text of several lines.
    pub(super) fn block(text: &str) -> Self {
        Self(Untrusted::new(text).as_str().to_owned())
    }

    /// Texts that each stay on a line of their own, head and tail of them if they are too many.
    pub(super) fn lines(lines: impl IntoIterator<Item = String>) -> Self {
        let lines: Vec<_> =
            lines.into_iter().map(|line| Untrusted::new(line).one_line(usize::MAX)).collect();
        Self::block(&lines.join("\n"))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Cases that belong together.
pub(super) struct Suite {
    pub(super) name: XmlText,
    pub(super) cases: Vec<Case>,
    /// Empty: none.
    pub(super) out: XmlText,
}

/// One row of a dashboard.
pub(super) struct Case {
    pub(super) class: XmlText,
    pub(super) name: XmlText,
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
    pub(super) out: Option<XmlText>,
}

pub(super) enum Outcome {
    Pass,
    Failure { kind: XmlText, message: XmlText, body: XmlText },
    Error { kind: XmlText, message: XmlText, body: XmlText },
    Skipped { message: XmlText, body: XmlText },
}

/// The document.
pub(super) fn write(suites: Vec<Suite>, started: SystemTime) -> Vec<u8> {
    let started = timestamp(started);
    let mut report = Report::new();
    report.add_testsuites(suites.into_iter().map(|suite| suite.into_junit(started)));
    let mut xml = Vec::new();
    report.write_xml(&mut xml).expect("memory takes everything that is written to it");
    xml.push(b'\n');
    xml
}

impl Suite {
    fn into_junit(self, started: OffsetDateTime) -> TestSuite {
        let Self { name, cases, out } = self;
        let mut suite = TestSuite::new(&name.0);
        suite.package = name.0;
        suite.set_timestamp(started);
        suite.add_testcases(cases.into_iter().map(Case::into_junit));
        if !out.is_empty() {
            suite.set_system_out(&out.0);
        }
        suite
    }
}

impl Case {
    fn into_junit(self) -> TestCase {
        let Self { class, name, took, outcome, out } = self;
        TestCase {
            name: name.0,
            time: rounded(took),
            result: outcome.into_junit(),
            classname: Some(class.0),
            // The schema has no such attribute.
            filepath: None,
            system_out: out.map(|out| out.0),
            system_err: None,
        }
    }
}

impl Outcome {
    fn into_junit(self) -> TestResult {
        match self {
            Self::Pass => TestResult::Success,
            Self::Failure { kind, message, body } => {
                TestResult::Failure { type_: kind.0, message: message.0, cause: Some(body.0) }
            }
            Self::Error { kind, message, body } => {
                TestResult::Error { type_: kind.0, message: message.0, cause: Some(body.0) }
            }
            Self::Skipped { message, body } => TestResult::SkippedWithCause {
                type_: "skipped".to_owned(),
                message: message.0,
                cause: Some(body.0),
            },
        }
    }
}

/// Whole milliseconds: the schema's times have no exponent.
fn rounded(took: Duration) -> junit_report::Duration {
    let ms = (took.as_micros() + 500) / 1000;
    // Bounded, so that the sum over a suite cannot overflow.
    junit_report::Duration::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX).min(1 << 40))
}

/// Whole seconds, which is what the format's other writers use.
fn timestamp(at: SystemTime) -> OffsetDateTime {
    at.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
