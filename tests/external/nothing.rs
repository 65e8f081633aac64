//! No sandbox at all, and what is no sandbox.

use libtest_mimic::Trial;

use crate::suite::{breaks, told, told_with};
use crate::trials::trials;

fn no_sandbox_at_all_is_red() {
    for command in ["sh -c", "sh -c 'echo banner; exec {toolbox}'"] {
        let text = told(command, 1);
        for probe in [
            "abstract-socket",
            "fast-open-and-mptcp",
            "loopback-reach",
            "resolver-exfiltration",
            "unix-path-socket",
        ] {
            assert!(breaks(&text, probe), "{text}");
        }
        // The worst first, each with what to do about it.
        assert!(text.starts_with("Not as it should be:\n  critical"), "{text}");
        assert_eq!(text.matches("does not hold\n").count(), text.matches("To close it: ").count());
    }
}

fn what_is_no_sandbox_cannot_be_judged() {
    for (command, why) in [
        ("echo hello", "hello"),
        ("sh -c 'echo sorry >&2; exit 7' {toolbox}", "sorry"),
        ("/no/such/program", "cannot run /no/such/program"),
        ("cat {toolbox}", "prints too much"),
        ("sh -c 'head -c 200000 /dev/urandom' {toolbox}", "prints too much"),
        ("sh -c 'head -c 2000 /dev/urandom' {toolbox}", "the command ended"),
    ] {
        let text = told(command, 3);
        assert!(text.contains("Could not be judged") && text.contains(why), "{command}\n{text}");
    }
}

fn one_that_never_answers_is_given_up_after_the_time_that_it_has() {
    let text = told_with("sleep 60 {toolbox}", &["--patience", "200ms"], 3);
    assert!(text.contains("the command ended"), "sleep takes no path for a time: {text}");
    let text = told_with("sh -c 'sleep 60' {toolbox}", &["--patience", "200ms"], 3);
    assert!(text.contains("nothing came for 0.2 s"), "{text}");
}

fn options_of_it_are_nothing_without_it() {
    let program = || {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
        program.arg("probe");
        program
    };
    for option in [&["--lab"][..], &["--allow", "127.0.0.1:1"], &["--patience", "1s"]] {
        let output = program().args(option).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("--in <COMMAND>"));
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        no_sandbox_at_all_is_red,
        what_is_no_sandbox_cannot_be_judged,
        one_that_never_answers_is_given_up_after_the_time_that_it_has,
        options_of_it_are_nothing_without_it,
    ]
}
