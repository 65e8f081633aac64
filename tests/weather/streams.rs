//! Standard streams that are closed, full, or read by somebody who has seen enough.

use std::fs::OpenOptions;
use std::process::Stdio;

use libtest_mimic::Trial;

use crate::run::{Marked, Who, program};
use crate::trials::{needs_user_namespaces, trials};

/// What is printed to: with a reader that is gone already.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

const PRINTERS: &[&[&str]] = &[
    &["probe", "--list"],
    &["doctor"],
    &["schema", "probe"],
    &["completions", "bash"],
    &["--help"],
    &["--version"],
];

fn a_reader_that_has_seen_enough_is_no_reason_to_fail() {
    for arguments in PRINTERS {
        let mut run = Marked::program(Who::Myself, arguments);
        run.command.stdout(closed_pipe());
        let ended = run.ends();
        assert_eq!((ended.code(), ended.err.as_str()), (0, ""), "{arguments:?}");
    }
    needs_user_namespaces();
    // The verdict counts, whoever reads the report.
    let folder = tempfile::tempdir().expect("a folder");
    let too_much = "title = \"t\"\nwhy = \"w\"\nseverity = \"low\"\nproven-by = [\"no-bundle-route\"]\n[[attempt]]\n\
        method = \"tcp\"\nto = { site = \"bundle\", port = \"egress\" }\nexpect = \"reached\"\n";
    std::fs::write(folder.path().join("too-much.toml"), too_much).expect("write");
    let unreached = ["probe", "-q", "--probes", folder.path().to_str().expect("UTF-8")];
    for (arguments, code) in [
        (&["probe", "-q"][..], 0),
        (&["probe", "-q", "bundle-reach", "--breach", "no-bundle-route"], 0),
        (&unreached, 1),
    ] {
        let mut run = Marked::program(Who::Myself, arguments);
        run.command.stdout(closed_pipe());
        let ended = run.ends();
        assert_eq!((ended.code(), ended.err.as_str()), (code, ""), "{arguments:?}");
    }
}

fn a_report_that_cannot_be_printed_is_an_error() {
    for arguments in [&["probe", "--list"][..], &["doctor"], &["schema", "probe"]] {
        let mut run = Marked::program(Who::Myself, arguments);
        run.command.stdout(OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
        let ended = run.ends();
        let why = "error: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!((ended.code(), ended.err.as_str()), (2, why), "{arguments:?}");
    }
}

fn standard_error_may_be_closed() {
    needs_user_namespaces();
    let mut run = Marked::program(Who::Myself, &["probe"]);
    run.command.stderr(closed_pipe());
    let ended = run.ends();
    assert_eq!(ended.code(), 0);
    let mut run = Marked::program(Who::Myself, &["probe", "--probes", "/nowhere"]);
    run.command.stderr(closed_pipe());
    assert_eq!(run.ends().code(), 2);
}

fn streams_may_be_missing_altogether() {
    needs_user_namespaces();
    for closing in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let script = format!("exec \"$0\" probe -q {closing}");
        let ended = Marked::of("sh").args(&["-c", &script, program()]).ends();
        assert_eq!((ended.code(), ended.err.as_str()), (0, ""), "{closing}");
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_reader_that_has_seen_enough_is_no_reason_to_fail,
        a_report_that_cannot_be_printed_is_an_error,
        standard_error_may_be_closed,
        streams_may_be_missing_altogether,
    ]
}
