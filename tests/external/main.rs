//! `claude-bottle probe --in`, against real sandboxes, and against none at all.

#![cfg(target_os = "linux")]

mod allowed;
mod bubblewrap;
mod containers;
mod lab;
mod namespaces;
mod nothing;
mod stopped;
mod strange;

use std::process::{Command, Output};

/// bubblewrap with a root file system that shows nothing of the run itself, and the toolbox in /tmp/in.
const BARE: &str =
    "bwrap --ro-bind / / --tmpfs /tmp --tmpfs /run --tmpfs /var --proc /proc --dev /dev";
const WITH_TOOLBOX: &str = "bwrap --ro-bind / / --tmpfs /tmp --tmpfs /run --tmpfs /var --proc /proc --dev /dev \
                            --ro-bind {dir} /tmp/in";

fn program(command: &str, more: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
    program.env_remove("GITHUB_STEP_SUMMARY");
    program.args(["probe", "--quiet", "--color", "never", "--in", command]).args(more);
    program
}

fn probe(command: &str, more: &[&str]) -> Output {
    program(command, more).output().unwrap()
}

/// What was said, with the exit code as it must be.
fn told(command: &str, code: i32) -> String {
    told_with(command, &[], code)
}

fn told_with(command: &str, more: &[&str], code: i32) -> String {
    let output = probe(command, more);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command} {more:?}\n{text}\n{error}");
    text + &error
}

/// Whether this shell command succeeds here.
fn works(command: &str) -> bool {
    let output = Command::new("sh").args(["-c", command]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Whether bubblewrap works here; says so where it does not.
fn has_bubblewrap(test: &str) -> bool {
    let works = works(&format!("{BARE} --unshare-net true"));
    if !works {
        eprintln!("{test}: skipped: bubblewrap is not installed, or may not make namespaces here");
    }
    works
}

/// Whether user and net namespaces may be made here; says so where they may not.
fn has_namespaces(test: &str) -> bool {
    let works = works("unshare -rn true");
    if !works {
        eprintln!("{test}: skipped: no user and net namespaces may be made here");
    }
    works
}

fn breaks(text: &str, probe: &str) -> bool {
    text.contains(&format!("{probe} does not hold"))
}
