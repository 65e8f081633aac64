//! The kind `tool`, with a script as the program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use claude_bottle::canary::{self, Finding};
use claude_bottle::host::Host;
use libtest_mimic::Trial;

use crate::one;
use crate::trials::trials;

/// A definition of a canary about the program at `path`.
fn about(path: &Path) -> String {
    format!(
        r#"
        title = "T"
        why = "W"
        [check]
        kind = "tool"
        program = "{}"
        version = {{ line = "thing {{version}} of" }}
        [[check.help]]
        has = ["--network"]
        [[check.help]]
        args = ["run", "-h"]
        has = ["--rm"]
        "#,
        path.display()
    )
}

/// What comes of a canary about a program that does what `script` says.
fn checked(script: &str) -> Finding {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thing");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let canary = one(&about(&path));
    assert_eq!(canary::unmet(&canary, &Host::bare()), None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    loop {
        let outcome = runtime.block_on(canary::run(&canary, &Host::bare()));
        // Another test's fork may hold the script open for writing for a moment.
        if !outcome.finding.detail().contains("Text file busy") {
            return outcome.finding;
        }
    }
}

const GOOD: &str = r#"case "$*" in
--version) echo 'thing 1.2.3 of today' ;;
--help) echo 'usage: thing [--network=NET]' ;;
'run -h') echo '  --rm  remove' >&2; exit 129 ;;
*) exit 3 ;;
esac"#;

fn a_program_as_it_was_is_unchanged() {
    assert_eq!(checked(GOOD), Finding::Unchanged { seen: "version 1.2.3".to_owned() });
}

fn a_program_that_speaks_otherwise_has_changed() {
    let cases = [
        (
            "another line with the version",
            GOOD.replace("thing 1.2.3 of today", "Thing 1.2.3\x1b[2J of today"),
        ),
        ("no version at all", GOOD.replace("1.2.3", "latest")),
        ("an error", GOOD.replace("--version)", "--version) exit 7;")),
        ("a flag that is gone", GOOD.replace("--network", "--networks")),
        ("a flag that is gone from a subcommand", GOOD.replace("--rm", "--remove")),
    ];
    let told = cases.iter().map(|(title, script)| match checked(script) {
        Finding::Changed { what } => {
            let program = what.split('`').nth(1).unwrap_or_default();
            let program = program.split(' ').next().unwrap_or_default().to_owned();
            format!("{title}: {}", what.replace(&program, "thing"))
        }
        other => panic!("{title}: {other:?}"),
    });
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"));
    });
}

fn a_program_that_cannot_be_run_says_nothing_of_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thing");
    fs::write(&path, "#!/nonexistent/interpreter\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(canary::run(&one(&about(&path)), &Host::bare()));
    assert!(matches!(outcome.finding, Finding::Unreachable { .. }), "{:?}", outcome.finding);
}

fn a_program_that_is_not_there_is_the_reason_to_skip() {
    let canary = one(&about(Path::new("/nonexistent/thing")));
    let why = canary::unmet(&canary, &Host::bare());
    assert_eq!(why.as_deref(), Some("needs the program /nonexistent/thing"));
    let named = about(Path::new("no-such-thing-anywhere"));
    let why = canary::unmet(&one(&named), &Host::bare());
    assert_eq!(why.as_deref(), Some("needs no-such-thing-anywhere on PATH"));
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_program_as_it_was_is_unchanged,
        a_program_that_speaks_otherwise_has_changed,
        a_program_that_cannot_be_run_says_nothing_of_upstream,
        a_program_that_is_not_there_is_the_reason_to_skip,
    ]
}
