//! The whole result as one JSON document that lasts: written by one run, read by the next.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::prose;
use super::tally::Tally;
use super::text::Untrusted;
use crate::lab::Wiring;
use crate::probe::flip;
use crate::probe::outcome::{Cost, ProbeOutcome, RunOutcome, Standing};
use crate::probe::verdict::Verdict;

/// The version of the document's shape. It grows when a field is renamed, removed or changes its meaning; a new field
/// alone does not change it.
pub const SCHEMA: u32 = 1;

/// What the caller knows about the circumstances of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The command line, word by word.
    pub command: Vec<String>,
    /// When the run was started (RFC 3339).
    pub started: String,
    /// Facts about the host: the kernel, the versions of what it runs, ….
    pub host: BTreeMap<String, String>,
}

/// The document: every duration in whole microseconds, in a field whose name ends in `_us`.
///
/// Who reads it must not mind fields that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of its shape: [`SCHEMA`].
    pub schema: u32,
    /// What wrote it.
    pub tool: Tool,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// When the run was started (RFC 3339).
    pub started: String,
    /// Facts about the host: the kernel, the versions of what it runs, ….
    pub host: BTreeMap<String, String>,
    /// How many probes ended how.
    pub tally: Tally,
    /// What the run exited with, a comparison with an earlier report left out.
    pub exit_code: u8,
    /// One entry per backend, or per breach.
    pub runs: Vec<Run>,
}

/// The program that wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// All probes against one bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// What made the bottle.
    pub backend: String,
    /// The deliberate hole in it, if there was one.
    pub breach: Option<String>,
    /// An engine with its version, images with their digests; empty where the backend needs none.
    #[serde(default)]
    pub made_of: BTreeMap<String, String>,
    /// How bottle and lab were wired.
    #[serde(default)]
    pub wiring: Wiring,
    /// What the run cost.
    pub cost: Cost,
    /// What a reader should know besides, one sentence each.
    pub notes: Vec<String>,
    /// The probes, sorted by name.
    pub probes: Vec<Probe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// The outcome at a glance. Under a breach that is of the bottle, not of the proof.
    pub standing: Standing,
    /// Under a breach: whether the probe noticed it, and whether it should.
    #[serde(default)]
    pub flip: Option<Flip>,
    /// All that is known.
    #[serde(flatten)]
    pub outcome: ProbeOutcome,
}

/// Whether a probe noticed a breach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flip {
    /// Whether the probe declares that it must.
    pub declared: bool,
    /// Whether it did.
    pub flipped: bool,
}

impl Flip {
    /// Whether it is as declared.
    pub fn is_as_declared(self) -> bool {
        self.declared == self.flipped
    }
}

impl Probe {
    /// Whether it is not as it should be, or cannot be told: what a reader looks at first. Under a breach that is where
    /// it is not as declared.
    pub(super) fn is_wrong(&self) -> bool {
        match self.flip {
            Some(flip) => !flip.is_as_declared() || self.standing == Standing::Error,
            None => matches!(self.standing, Standing::Fail | Standing::Error),
        }
    }

    /// The words for it: under a breach a leak may be what was to be shown.
    pub(super) fn word(&self) -> &'static str {
        match self.flip {
            Some(Flip { declared: true, flipped: true }) => match self.outcome.verdict {
                Verdict::Leaked { .. } => "leaks as declared",
                _ => "fails as declared",
            },
            Some(Flip { declared: true, flipped: false }) => "DID NOT NOTICE",
            Some(Flip { declared: false, flipped: true }) => "NOT DECLARED",
            Some(_) | None => prose::word(&self.outcome),
        }
    }
}

/// A report could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It is no JSON, or breaks off.
    #[error("damaged: it is not the JSON that it was written as")]
    Damaged(#[source] serde_json::Error),
    /// Something else wrote it.
    #[error("not a report of claude-bottle: there is no `tool.name` that says so")]
    Foreign,
    /// Another version wrote it.
    #[error(
        "a report of schema version {found}, while this program reads version {SCHEMA}; make it anew"
    )]
    OtherSchema {
        /// What the report says, as JSON.
        found: String,
    },
    /// A field is missing or wrong.
    #[error("damaged: a field is missing or wrong")]
    Fields(#[source] serde_json::Error),
}

impl Report {
    /// All of it in one line: the tally, or of bottles with a hole what became of the proof.
    pub fn in_one_line(&self) -> String {
        let holes = self.runs.iter().filter(|run| run.breach.is_some());
        let flips: Vec<_> =
            holes.clone().flat_map(|run| &run.probes).filter_map(|probe| probe.flip).collect();
        if flips.is_empty() {
            return self.tally.to_string();
        }
        let of = |declared, flipped| {
            flips.iter().filter(|flip| **flip == Flip { declared, flipped }).count()
        };
        let parts = [
            (of(true, true), "noticed as declared"),
            (of(true, false), "not noticed though declared"),
            (of(false, true), "noticed though not declared"),
            (of(false, false), "unchanged as declared"),
        ];
        let parts = parts.into_iter().filter(|(n, _)| *n > 0);
        let parts: Vec<_> = parts.map(|(n, what)| format!("{n} {what}")).collect();
        let breaches = match holes.count() {
            1 => "1 breach".to_owned(),
            n => format!("{n} breaches"),
        };
        format!(
            "{breaches}, {}: {}",
            prose::count(self.tally.attempts, "attempt"),
            parts.join(", ")
        )
    }

    /// The report of `runs`, which made the program exit with `exit_code`. `declared` tells whether a probe declares that it
    /// notices a breach: backend, breach, probe.
    pub fn of(
        runs: &[RunOutcome],
        context: &Context,
        exit_code: u8,
        declared: impl Fn(&str, &str, &str) -> bool,
    ) -> Self {
        let Context { command, started, host } = context.clone();
        Self {
            schema: SCHEMA,
            tool: Tool {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            command,
            started,
            host,
            tally: Tally::of(runs),
            exit_code,
            runs: runs.iter().map(|run| Run::of(run, &declared)).collect(),
        }
    }

    /// Indented, with a newline at its end.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("every key is a string and nothing fails") + "\n"
    }

    /// Reads what [`Report::to_json`] wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(ReadError::Damaged)?;
        if value["tool"]["name"] != env!("CARGO_PKG_NAME") {
            return Err(ReadError::Foreign);
        }
        if value["schema"] != SCHEMA {
            let found = Untrusted::new(value["schema"].to_string()).one_line(20);
            return Err(ReadError::OtherSchema { found });
        }
        serde_json::from_value(value).map_err(ReadError::Fields)
    }
}

impl Run {
    fn of(run: &RunOutcome, declared: &impl Fn(&str, &str, &str) -> bool) -> Self {
        // Taken apart, so that a new field cannot be forgotten here.
        let RunOutcome { backend, breach, probes, cost, notes, wiring, made_of, expected: _ } =
            run.clone();
        let flip = |outcome: &ProbeOutcome| {
            let breach = breach.as_deref()?;
            let declared = declared(&backend, breach, &outcome.name);
            Some(Flip { declared, flipped: flip::has_flipped(outcome) })
        };
        let probe = |outcome: ProbeOutcome| Probe {
            standing: outcome.standing(),
            flip: flip(&outcome),
            outcome,
        };
        let probes = probes.into_iter().map(probe).collect();
        Self { backend, breach, made_of, wiring, cost, notes, probes }
    }
}

/// The JSON Schema (draft 2020-12) of a report.
pub fn schema() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<Report>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn context() -> Context {
        let words = ["claude-bottle", "probe", "--json", "a \"b\".json"];
        Context {
            command: words.map(str::to_owned).to_vec(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            host: BTreeMap::from([("kernel".to_owned(), "6.18.0".to_owned())]),
        }
    }

    fn report(runs: &[RunOutcome]) -> Report {
        Report::of(runs, &context(), Tally::of(runs).exit_code(), |_, _, _| true)
    }

    /// The document without what changes from release to release.
    fn json(runs: &[RunOutcome]) -> String {
        let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
        report(runs).to_json().replace(&version, "\"version\": \"VERSION\"")
    }

    #[test]
    fn two_probes() {
        let probes = vec![
            samples::known(samples::probe("docker-dns", samples::leaked())),
            samples::probe("metadata", samples::skipped("no site metadata here")),
        ];
        insta::assert_snapshot!(json(&[samples::run(probes)]));
    }

    #[test]
    fn no_run() {
        insta::assert_snapshot!(json(&[]), @r#"
        {
          "schema": 1,
          "tool": {
            "name": "claude-bottle",
            "version": "VERSION"
          },
          "command": [
            "claude-bottle",
            "probe",
            "--json",
            "a \"b\".json"
          ],
          "started": "2026-01-02T03:04:05Z",
          "host": {
            "kernel": "6.18.0"
          },
          "tally": {
            "probes": 0,
            "attempts": 0,
            "passed": 0,
            "known_leaks": 0,
            "leaked": 0,
            "unreached": 0,
            "leaks_gone": 0,
            "inconclusive": 0,
            "skipped": 0
          },
          "exit_code": 3,
          "runs": []
        }
        "#);
    }

    #[test]
    fn every_duration_is_a_whole_number_in_a_field_that_says_its_unit() {
        fn check(value: &serde_json::Value) {
            match value {
                serde_json::Value::Object(fields) => {
                    for (name, value) in fields {
                        assert_eq!(
                            name.ends_with("_us"),
                            value.is_u64() && !is_count(name),
                            "{name}"
                        );
                        check(value);
                    }
                }
                serde_json::Value::Array(values) => values.iter().for_each(check),
                _ => {}
            }
        }
        fn is_count(name: &str) -> bool {
            let tally = serde_json::to_value(Tally::default()).unwrap();
            tally.get(name).is_some() || ["schema", "exit_code"].contains(&name)
        }
        let mut run = samples::everything();
        // An errno is a number too.
        for attempt in run.probes.iter_mut().flat_map(|probe| &mut probe.attempts) {
            attempt.said.as_mut().unwrap().errno = None;
        }
        check(&serde_json::from_str(&report(&[run]).to_json()).unwrap());
    }

    #[test]
    fn hostile_text_comes_back_as_it_was() {
        let text = report(&[samples::hostile()]).to_json();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["runs"][0]["probes"][0]["title"], samples::HOSTILE);
        assert_eq!(value["runs"][0]["probes"].as_array().unwrap().len(), 5);
        assert_eq!(value["command"][3], "a \"b\".json");
    }

    #[test]
    fn what_was_written_is_read_as_it_was_and_keeps_to_its_schema() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        for runs in [vec![], vec![samples::everything()], vec![samples::hostile()]] {
            let report = report(&runs);
            let text = report.to_json();
            assert_eq!(Report::read(text.as_bytes()).unwrap(), report);
            let value = serde_json::from_str(&text).unwrap();
            let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{errors:#?}");
        }
        let mut wrong = serde_json::to_value(report(&[samples::everything()])).unwrap();
        wrong["runs"][0]["probes"][0]["verdict"]["verdict"] = "fine".into();
        assert!(!validator.is_valid(&wrong));
    }

    #[test]
    fn what_is_no_report_of_ours_is_told() {
        let text = report(&[samples::everything()]).to_json();
        let told = |text: &str| Report::read(text.as_bytes()).unwrap_err().to_string();
        assert!(told("").starts_with("damaged"));
        assert!(told(&text[..text.len() / 2]).starts_with("damaged"));
        assert!(told("[1]").starts_with("not a report"));
        assert!(told("{\"tool\": {\"name\": \"x\"}}").starts_with("not a report"));
        let newer = text.replacen("\"schema\": 1", "\"schema\": 99", 1);
        assert!(told(&newer).contains("schema version 99"), "{}", told(&newer));
        let odd = text.replacen("\"schema\": 1", "\"schema\": \"\\u001b[2J\"", 1);
        assert!(!told(&odd).contains('\x1b'), "{}", told(&odd));
        assert!(told(&text.replacen("\"cost\"", "\"coast\"", 1)).starts_with("damaged: a field"));
    }
}
