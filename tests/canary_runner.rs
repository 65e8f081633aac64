//! The runner behind `cargo test --test canaries`, as a process of its own: this binary under another name.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::sync::LazyLock;

use claude_bottle::host::Host;
use claude_bottle::{backend, harness, toolbox};
use claude_bottle_protocol::VERSION;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use roxmltree::Document;
use tempfile::TempDir;

/// The name under which this binary is the runner.
const RUNNER: &str = "canaries";

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == RUNNER) {
        return harness::canaries();
    }
    let test = |name: &str, test: fn()| {
        let name = name.to_owned();
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        test("without_the_variable_all_are_ignored", without_the_variable_all_are_ignored),
        test("with_the_variable_they_run", with_the_variable_they_run),
        test("a_change_and_a_silence_are_told_apart", a_change_and_a_silence_are_told_apart),
        test("under_nextest_the_list_tells", under_nextest_the_list_tells),
        test("wrong_definitions_are_red_in_any_case", wrong_definitions_are_red_in_any_case),
        Trial::ignorable_test("the_shipped_one_is_green", || with_toolbox(None)),
        Trial::ignorable_test("a_toolbox_of_another_version_is_red", || {
            with_toolbox(Some("a toolbox of another version"))
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A canary about the program at `path`, which says `thing VERSION`.
fn definition(path: &Path) -> String {
    let program = path.display();
    format!(
        "title = \"T\"\nwhy = \"W\"\n[check]\nkind = \"tool\"\nprogram = \"{program}\"\n\
         version = {{ line = \"thing {{version}}\" }}\n"
    )
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Adds a canary about a program with this content.
    fn add(self, name: &str, program: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(self.path(&format!("{name}.toml")), definition(&path)).unwrap();
        self
    }

    /// Runs the runner on these canaries.
    fn run(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = runner(&self.path("junit.xml"));
        command.env(harness::CANARIES, self.0.path());
        command.envs(variables.iter().copied()).args(arguments);
        command.output().unwrap()
    }

    fn junit(&self) -> Option<String> {
        fs::read_to_string(self.path("junit.xml")).ok()
    }
}

fn runner(junit: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0(RUNNER).env(harness::CANARY_JUNIT, junit);
    command.env_remove(harness::RUN_CANARIES).env_remove("NEXTEST");
    command
}

const RUN: (&str, &str) = (harness::RUN_CANARIES, "1");
const GOOD: &str = "#!/bin/sh\necho thing 1.2.3\n";
const CHANGED: &str = "#!/bin/sh\necho Thing 1.2.3\n";
const BROKEN: &str = "#!/nonexistent/interpreter\n";

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn without_the_variable_all_are_ignored() {
    let folder = Folder::new().add("good", GOOD).add("changed", CHANGED);
    for variables in [&[][..], &[(harness::RUN_CANARIES, "0")]] {
        let output = folder.run(variables, &[]);
        let told = text(&output);
        assert!(output.status.success(), "{told}");
        let why = "set CLAUDE_BOTTLE_RUN_CANARIES=1";
        assert_eq!(told.matches(why).count(), 2, "{told}");
        assert!(told.contains("0 passed; 0 failed; 2 ignored"), "{told}");
        assert_eq!(folder.junit(), None);
    }
}

fn with_the_variable_they_run() {
    let folder = Folder::new().add("good", GOOD);
    let summary = folder.path("summary.md");
    let summary = summary.to_str().unwrap();
    let output = folder.run(&[RUN, ("GITHUB_STEP_SUMMARY", summary)], &[]);
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("test tool::good ... ok"), "{told}");
    let summary = fs::read_to_string(summary).unwrap();
    assert!(summary.contains("| ✅ | ` good ` | unchanged |"), "{summary}");
    let junit = folder.junit().unwrap();
    assert!(junit.contains("version 1.2.3") && !junit.contains("<failure"), "{junit}");
}

fn a_change_and_a_silence_are_told_apart() {
    let folder = Folder::new().add("good", GOOD).add("changed", CHANGED).add("broken", BROKEN);
    fs::write(folder.path("absent.toml"), definition(Path::new("/nonexistent/thing"))).unwrap();
    let output = folder.run(&[RUN], &[]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(101), "{told}");
    assert!(told.contains("1 passed; 2 failed; 1 ignored"), "{told}");
    assert!(told.contains("needs the program /nonexistent/thing"), "{told}");

    let junit = folder.junit().unwrap();
    let document = Document::parse(&junit).unwrap();
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    let results: Vec<_> = cases
        .map(|case| {
            let result = case.children().map(|node| node.tag_name().name());
            let result = result.filter(|name| *name != "system-out").collect::<Vec<_>>().join(" ");
            (case.attribute("classname").unwrap(), case.attribute("name").unwrap(), result)
        })
        .collect();
    let result = |name, result: &str| ("canaries.tool", name, result.to_owned());
    assert_eq!(
        results,
        [
            result("absent", "skipped"),
            result("broken", "error"),
            result("changed", "failure"),
            result("good", ""),
        ]
    );
}

fn under_nextest_the_list_tells() {
    let folder = Folder::new().add("good", GOOD);
    let list = |variables: &[(&str, &str)], ignored: &[&str]| {
        let arguments = [&["--list", "--format", "terse"], ignored].concat();
        text(&folder.run(variables, &arguments))
    };
    let nextest = ("NEXTEST", "1");
    assert_eq!(list(&[nextest], &["--ignored"]), "tool::good: test\n");
    assert_eq!(list(&[nextest, RUN], &["--ignored"]), "");
    assert_eq!(list(&[nextest, RUN], &[]), "tool::good: test\n");
    let output = folder.run(&[nextest, RUN], &["--exact", "tool::good"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(folder.junit(), None, "nextest writes its own");
}

fn wrong_definitions_are_red_in_any_case() {
    let folder = Folder::new().add("good", GOOD);
    fs::write(folder.path("wrong.toml"), "title = 7\n").unwrap();
    let output = folder.run(&[], &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("wrong.toml:1:9: `title` is an integer, expected a string"), "{told}");
}

/// Upstream may change at any time, except for what this project makes itself. With `other`, the toolbox in the bottle
/// is ours with another version written into it.
fn with_toolbox(other: Option<&str>) -> Result<Completion, Failed> {
    if let Some(why) = backend::lacking(&Host::detect(), "namespace") {
        return Ok(Completion::ignored_with(why));
    }
    let folder = Folder::new();
    let mut command = runner(&folder.path("junit.xml"));
    command.envs([RUN]).args(["--exact", "toolbox::toolbox-in-namespace"]);
    if let Some(name) = other {
        let path = folder.path(name);
        fs::write(&path, of_another_version(&toolbox::bytes()?))?;
        command.env(toolbox::VARIABLE, path);
    }
    let output = command.output()?;
    let told = text(&output);
    assert_eq!(output.status.success(), other.is_none(), "{told}");
    let junit = folder.junit().unwrap();
    if other.is_some() {
        let said = format!("the toolbox is of version `{}`, not `{VERSION}`", *OTHER);
        assert!(told.contains(&said), "{told}");
        assert!(junit.contains("<failure") && junit.contains(&said), "{junit}");
    } else {
        assert!(told.contains("1 passed"), "{told}");
        assert!(junit.contains(&format!("version {VERSION}")), "{junit}");
    }
    Ok(Completion::Completed)
}

/// As long as [`VERSION`], and another one.
static OTHER: LazyLock<String> =
    LazyLock::new(|| VERSION.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect());

fn of_another_version(toolbox: &[u8]) -> Vec<u8> {
    let mut bytes = toolbox.to_vec();
    let places: Vec<_> = toolbox
        .windows(VERSION.len())
        .enumerate()
        .filter(|(_, w)| *w == VERSION.as_bytes())
        .collect();
    assert!(!places.is_empty(), "the toolbox has its version in it");
    for (at, _) in places {
        bytes[at..at + VERSION.len()].copy_from_slice(OTHER.as_bytes());
    }
    bytes
}
