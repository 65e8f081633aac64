//! What the tests have in common: the program, and what it needs.

use std::process::{Command, Output};

use crate::trials::skip;

/// bubblewrap with a root file system that shows nothing of the run itself, nor the many files of whose machine this is.
pub(crate) const BARE: &str = "bwrap --ro-bind / / --tmpfs /tmp --tmpfs /run --tmpfs /var --tmpfs /root --remount-ro /root \
                            --tmpfs /home --remount-ro /home --proc /proc --dev /dev";
/// The same with the toolbox in /tmp/in.
pub(crate) const WITH_TOOLBOX: &str = "bwrap --ro-bind / / --tmpfs /tmp --tmpfs /run --tmpfs /var --tmpfs /root --remount-ro /root \
                            --tmpfs /home --remount-ro /home --proc /proc --dev /dev --ro-bind {dir} /tmp/in";

pub(crate) fn program(command: &str, more: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
    program.env_remove("GITHUB_STEP_SUMMARY");
    program.args(["probe", "--quiet", "--color", "never", "--in", command]).args(more);
    program
}

pub(crate) fn probe(command: &str, more: &[&str]) -> Output {
    program(command, more).output().unwrap()
}

/// What was said, with the exit code as it must be.
pub(crate) fn told(command: &str, code: i32) -> String {
    told_with(command, &[], code)
}

pub(crate) fn told_with(command: &str, more: &[&str], code: i32) -> String {
    let output = probe(command, more);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command} {more:?}\n{text}\n{error}");
    text + &error
}

/// Whether this shell command succeeds here.
pub(crate) fn works(command: &str) -> bool {
    let output = Command::new("sh").args(["-c", command]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Ends the test as ignored where bubblewrap does not work.
pub(crate) fn needs_bubblewrap() {
    if !works(&format!("{BARE} --unshare-net true")) {
        skip("bubblewrap is not installed, or may not make namespaces here");
    }
}

/// Ends the test as ignored where user and net namespaces may not be made.
pub(crate) fn needs_namespaces() {
    if !works("unshare -rn true") {
        skip("no user and net namespaces may be made here");
    }
}

pub(crate) fn breaks(text: &str, probe: &str) -> bool {
    text.contains(&format!("{probe} does not hold"))
}
