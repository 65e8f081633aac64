//! Reports that last, made by real runs of the program: written, validated, read back and compared.

use std::path::Path;
use std::process::{Command, Output};

use claude_bottle::backend;
use claude_bottle::host::Host;
use libtest_mimic::Trial;

use crate::trials::{skip, trials};

fn program(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_claude-bottle"))
        .args(arguments)
        .current_dir(folder)
        .env("GITHUB_STEP_SUMMARY", folder.join("summary.md"))
        .output()
        .unwrap()
}

fn ended(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A folder; the test is ignored where this host cannot run bottles.
fn folder() -> tempfile::TempDir {
    if let Some(why) = backend::lacking(&Host::detect(), "namespace") {
        skip(why);
    }
    tempfile::tempdir().unwrap()
}

fn a_real_report_keeps_to_the_schema_and_is_its_own_baseline() {
    let folder = folder();
    let folder = folder.path();
    let both = ["probe", "-q", "smoke-echo", "neighbour-reach", "--json", "a.json"];
    let (code, _, error) = ended(&program(folder, &[&both[..], &["--markdown", "a.md"]].concat()));
    assert_eq!(code, 0, "{error}");
    let markdown = std::fs::read_to_string(folder.join("a.md")).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("summary.md")).unwrap(), markdown);

    let (_, schema, _) = ended(&program(folder, &["schema", "report"]));
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let text = std::fs::read_to_string(folder.join("a.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(validator.is_valid(&report));
    assert_eq!(report["command"][1], "probe");
    assert_eq!(report["runs"][0]["wiring"]["places"][0]["role"], "bottle");

    // The same again is no worse; one of the two alone neither, since the other was not meant.
    let (code, text, _) = ended(&program(folder, &[&both[..], &["--baseline", "a.json"]].concat()));
    assert!(code == 0 && text.ends_with("nothing has changed\n"), "{code}: {text}");
    let alone = ["probe", "-q", "smoke-echo", "--baseline", "a.json", "--json", "b.json"];
    assert_eq!(ended(&program(folder, &alone)).0, 0);
    // But of two files the one is without it.
    let (code, text, _) = ended(&program(folder, &["compare", "a.json", "b.json"]));
    assert!(code == 3 && text.contains("neighbour-reach: contained → gone"), "{code}: {text}");
}

fn a_leak_in_a_real_bottle_is_in_the_report_with_its_evidence() {
    let folder = folder();
    let folder = folder.path();
    let hole = ["probe", "-q", "host-gateway", "--breach", "link-to-host", "--json", "a.json"];
    assert_eq!(ended(&program(folder, &hole)).0, 0);
    let text = std::fs::read_to_string(folder.join("a.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let probe = &report["runs"][0]["probes"][0];
    assert_eq!(probe["flip"], serde_json::json!({ "declared": true, "flipped": true }));
    assert_eq!(probe["verdict"]["verdict"], "leaked");
    assert!(probe["verdict"]["evidence"]["saw"].as_str().unwrap().contains("cb0n"));
}

fn what_cannot_be_compared_or_proven_is_told() {
    let folder = folder();
    let folder = folder.path();
    std::fs::write(folder.join("foreign.json"), "{}").unwrap();
    std::fs::write(folder.join("damaged.json"), "{").unwrap();
    for (arguments, wanted, says) in [
        (&["probe", "--baseline", "foreign.json"][..], 2, "not a report of claude-bottle"),
        (&["compare", "damaged.json", "foreign.json"], 2, "damaged"),
        (&["compare", "none.json", "foreign.json"], 2, "cannot read none.json"),
        (&["probe", "--breach", "all", "--junit", "x.xml"], 2, "cannot be used with"),
        (&["probe", "--explain", "--json", "x.json"], 2, "cannot be used with"),
        (&["probe", "-q", "smoke-echo", "--breach", "net-raw"], 2, "would prove nothing"),
    ] {
        let (code, text, error) = ended(&program(folder, arguments));
        assert_eq!(code, wanted, "{arguments:?}: {text}{error}");
        assert!(format!("{text}{error}").contains(says), "{arguments:?}: {text}{error}");
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_real_report_keeps_to_the_schema_and_is_its_own_baseline,
        a_leak_in_a_real_bottle_is_in_the_report_with_its_evidence,
        what_cannot_be_compared_or_proven_is_told,
    ]
}
