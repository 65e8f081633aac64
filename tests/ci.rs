//! What CI runs: the scripts, under the variables of its runners, and the example workflows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use claude_bottle::backend;
use claude_bottle::host::Host;
use roxmltree::Document;
use serde_norway::Value;

use crate::trials::{skip, trials};

#[path = "trials/mod.rs"]
mod trials;

fn main() -> ExitCode {
    trials::run([trials![
        under_gitea_the_script_runs_the_embedded_probes_and_skips_the_others_for_that_reason,
        a_runner_without_a_report_is_told,
        the_example_workflows_run_scripts_that_exist_and_keep_their_reports,
        a_wrong_workflow_is_noticed,
    ]])
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Under Gitea no engine is touched, and the embedded probes run all the same.
fn under_gitea_the_script_runs_the_embedded_probes_and_skips_the_others_for_that_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (junit, summary) = (folder.path().join("junit.xml"), folder.path().join("summary.md"));
    fs::write(&summary, "what was there\n").unwrap();
    let output = Command::new(root().join("ci/probes.sh"))
        .env("GITEA_ACTIONS", "true")
        .env("CI", "true")
        .env("GITHUB_STEP_SUMMARY", &summary)
        .env("CLAUDE_BOTTLE_JUNIT", &junit)
        .env_remove("NEXTEST")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));

    let junit = fs::read_to_string(junit).unwrap();
    let document = Document::parse(&junit).unwrap();
    let cases: Vec<_> = document.descendants().filter(|n| n.has_tag_name("testcase")).collect();
    let of = |backend: &str| {
        let class = format!("probes.{backend}");
        cases.iter().filter(move |case| case.attribute("classname") == Some(&class))
    };
    let skipped = |case: &roxmltree::Node<'_, '_>| {
        let skipped = case.children().find(|node| node.has_tag_name("skipped"))?;
        Some(skipped.attribute("message").unwrap_or_default().to_owned())
    };
    for backend in ["docker", "smolmachines"] {
        assert!(of(backend).count() > 10, "{backend} is not in {junit}");
        for case in of(backend) {
            let why = skipped(case).unwrap_or_else(|| panic!("{backend} ran: {case:?}"));
            assert!(why.contains("GITEA_ACTIONS=true"), "{backend}: {why}");
        }
    }
    let summary = fs::read_to_string(summary).unwrap();
    // What the program itself says of them.
    assert!(summary.starts_with("what was there\n## claude-bottle\n"), "{summary}");
    assert!(summary.contains("| ` smoke-echo ` |"), "{summary}");

    let ran = of("namespace").filter(|case| skipped(case).is_none()).count();
    if let Some(why) = backend::lacking(&Host::detect(), "namespace") {
        assert_eq!(ran, 0, "{junit}");
        skip(format!(
            "the others are skipped as they must be, and so are the embedded ones: {why}"
        ));
    }
    assert!(ran > 10, "{junit}");
}

/// Where nothing was reported, that is the summary, and never a success.
fn a_runner_without_a_report_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (code, wanted) in [(0, 3), (101, 101)] {
        // A runner that does not even begin.
        fs::write(path("cargo"), format!("#!/bin/sh\nexit {code}\n")).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path("cargo"), executable).unwrap();
        fs::write(path("junit.xml"), "of yesterday").unwrap();
        let _ = fs::remove_file(path("summary.md"));
        let paths = std::env::var("PATH").unwrap();
        let output = Command::new(root().join("ci/canaries.sh"))
            .env("PATH", format!("{}:{paths}", folder.path().display()))
            .env("GITHUB_STEP_SUMMARY", path("summary.md"))
            .env("CLAUDE_BOTTLE_CANARY_JUNIT", path("junit.xml"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(wanted));
        let summary = fs::read_to_string(path("summary.md")).unwrap();
        let told =
            format!("## claude-bottle: canaries\n\nNothing was reported (exit code {wanted}).\n");
        assert_eq!(summary, told);
    }
}

fn workflows() -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(root().join("ci/examples")).unwrap();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let value =
            serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, value)
    };
    let mut workflows: Vec<_> = files.map(|file| read(file.unwrap().path())).collect();
    workflows.sort_by(|a, b| a.0.cmp(&b.0));
    workflows
}

/// What is wrong in a workflow, as far as it can be told without its runner.
fn mistakes(workflow: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let jobs = workflow.get("jobs").and_then(Value::as_mapping);
    if workflow.get("on").is_none() || jobs.is_none_or(serde_norway::Mapping::is_empty) {
        found.push("no events or no jobs".to_owned());
    }
    for (name, job) in jobs.into_iter().flatten() {
        if job.get("runs-on").is_none() || job.get("timeout-minutes").is_none() {
            found.push(format!("{name:?} has no runner or no end"));
        }
        let steps = job.get("steps").and_then(Value::as_sequence).cloned().unwrap_or_default();
        let mut runs_ours = false;
        let mut keeps_the_report = false;
        for step in &steps {
            let text = |key: &str| step.get(key).and_then(Value::as_str);
            let (uses, run) = (text("uses"), text("run"));
            match (uses, run) {
                (Some(action), None) => {
                    let pinned = action.rsplit_once("@v").map(|(_, version)| version);
                    if !pinned.is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())) {
                        found.push(format!("{action} is not pinned to a version"));
                    }
                    if action.starts_with("actions/upload-artifact@") {
                        keeps_the_report = text("if") == Some("always()");
                    }
                }
                (None, Some(run)) => {
                    let scripts = run.split_whitespace().filter(|word| word.starts_with("ci/"));
                    for script in scripts {
                        runs_ours = true;
                        if !root().join(script).is_file() {
                            found.push(format!("{script} does not exist"));
                        }
                    }
                }
                _ => found.push(format!("neither an action nor a command: {step:?}")),
            }
        }
        if !runs_ours || !keeps_the_report {
            found.push(format!(
                "{name:?} runs no script of ours, or drops its report when it fails"
            ));
        }
    }
    found
}

fn the_example_workflows_run_scripts_that_exist_and_keep_their_reports() {
    let workflows = workflows();
    let names: Vec<_> = workflows.iter().map(|(path, _)| path.file_name().unwrap()).collect();
    let expected =
        ["gitea-canaries.yml", "gitea-probes.yml", "github-canaries.yml", "github-probes.yml"];
    assert_eq!(names, expected);
    for (path, workflow) in &workflows {
        assert_eq!(mistakes(workflow), Vec::<String>::new(), "{}", path.display());
    }
}

fn a_wrong_workflow_is_noticed() {
    let text = fs::read_to_string(root().join("ci/examples/github-probes.yml")).unwrap();
    for (right, wrong) in [
        ("ci/probes.sh", "ci/prods.sh"),
        ("checkout@v4", "checkout@main"),
        ("if: always()", "if: success()"),
        ("timeout-minutes", "timeout"),
        ("jobs:", "job:"),
    ] {
        let workflow = serde_norway::from_str(&text.replace(right, wrong)).unwrap();
        assert_ne!(mistakes(&workflow), Vec::<String>::new(), "{wrong}");
    }
}
