//! Verdicts as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::tally::Tally;
use crate::probe::outcome::{Cost, ProbeOutcome, RunOutcome, Standing};

/// The version of the document's shape. It grows when a field is renamed, removed or changes its meaning; a new field
/// alone does not change it.
pub const SCHEMA: u32 = 1;

/// What the caller knows about the circumstances of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Context {
    /// The command line, word by word.
    pub command: Vec<String>,
    /// When the run was started (RFC 3339).
    pub started: String,
    /// Facts about the host: the kernel, the versions of what it runs, ….
    pub host: BTreeMap<String, String>,
}

/// The document: every duration in whole microseconds, in a field whose name ends in `_us`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: Tool,
    #[serde(flatten)]
    context: &'a Context,
    tally: Tally,
    exit_code: u8,
    runs: Vec<Run<'a>>,
}

#[derive(Serialize)]
struct Tool {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Run<'a> {
    backend: &'a str,
    breach: Option<&'a str>,
    cost: Cost,
    notes: &'a [String],
    probes: Vec<Probe<'a>>,
}

#[derive(Serialize)]
struct Probe<'a> {
    standing: Standing,
    #[serde(flatten)]
    outcome: &'a ProbeOutcome,
}

/// All runs as one JSON document, indented, with a newline at its end.
pub fn to_json(runs: &[RunOutcome], context: &Context) -> String {
    let tally = Tally::of(runs);
    let document = Document {
        schema: SCHEMA,
        tool: Tool { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") },
        context,
        tally,
        exit_code: tally.exit_code(),
        runs: runs.iter().map(view).collect(),
    };
    let mut text =
        serde_json::to_string_pretty(&document).expect("every key is a string and nothing fails");
    text.push('\n');
    text
}

fn view(run: &RunOutcome) -> Run<'_> {
    // Taken apart, so that a new field cannot be forgotten here.
    let RunOutcome { backend, breach, probes, cost, notes } = run;
    let probes =
        probes.iter().map(|outcome| Probe { standing: outcome.standing(), outcome }).collect();
    Run { backend, breach: breach.as_deref(), cost: *cost, notes, probes }
}

/// Serialises a duration as whole microseconds.
pub(crate) fn micros<S: serde::Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
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

    /// The document without what changes from release to release.
    fn json(runs: &[RunOutcome]) -> String {
        let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
        to_json(runs, &context()).replace(&version, "\"version\": \"VERSION\"")
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
        check(&serde_json::from_str(&to_json(&[run], &context())).unwrap());
    }

    #[test]
    fn hostile_text_comes_back_as_it_was() {
        let text = to_json(&[samples::hostile()], &context());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["runs"][0]["probes"][0]["title"], samples::HOSTILE);
        assert_eq!(value["runs"][0]["probes"].as_array().unwrap().len(), 5);
        assert_eq!(value["command"][3], "a \"b\".json");
    }
}
