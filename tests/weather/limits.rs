//! Limits that are too low: a clear error, never a verdict by default.

use libtest_mimic::Trial;

use crate::run::{Marked, program, verdicts};
use crate::trials::{needs_user_namespaces, skip, trials};

/// A user that nobody else is: the limit on processes is per user.
const USER: &str = "61234";

/// Some of every kind: attempts over the network and without it, allowed and not.
const PROBES: &[&str] = &["bundle-reach", "egress-port-bypass", "loopback-reach", "smoke-echo"];

/// Runs within a limit. Whatever comes of it is an honest failure, or the whole truth.
#[track_caller]
fn run_within(limit: &str, whole: &[(String, String, serde_json::Value)]) -> i32 {
    let folder = tempfile::tempdir().expect("a folder");
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).expect("chmod");
    let json = folder.path().join("run.json");
    let mut arguments = Vec::new();
    if nix::unistd::geteuid().is_root() {
        arguments.extend(["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    let limited = format!("--{limit}");
    arguments.extend(["prlimit", &limited, program(), "probe", "-q", "--json"]);
    arguments.push(json.to_str().expect("UTF-8"));
    arguments.extend(PROBES);
    let ended = Marked::of("env").args(&arguments).ends();
    let code = ended.code();
    if code == 0 {
        assert_eq!(known(&verdicts(&json)), known(whole), "{limit}: {}", ended.out);
    } else {
        assert!(!ended.err.is_empty() || ended.out.contains("INCONCLUSIVE"), "{limit}: {ended:?}");
    }
    code
}

/// Verdicts that do not depend on who else is on this machine.
fn known(all: &[(String, String, serde_json::Value)]) -> Vec<(&str, &str, &str)> {
    let known = all.iter().filter(|(_, what, _)| !what.contains("real-loopback:discard"));
    known
        .map(|(probe, what, verdict)| {
            (probe.as_str(), what.as_str(), verdict["verdict"].as_str().unwrap())
        })
        .collect()
}

fn whole() -> Vec<(String, String, serde_json::Value)> {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("run.json");
    let arguments = [program(), "probe", "-q", "--json", json.to_str().expect("UTF-8")];
    assert_eq!(Marked::of("env").args(&arguments).args(PROBES).ends().code(), 0);
    verdicts(&json)
}

fn of_descriptors() {
    needs_user_namespaces();
    let whole = whole();
    let mut codes = Vec::new();
    for most in [
        3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 48, 64, 128, 256,
        512,
    ] {
        codes.push(run_within(&format!("nofile={most}:{most}"), &whole));
    }
    assert_eq!(codes.last(), Some(&0), "so many are enough: {codes:?}");
    assert!(codes.iter().any(|code| *code != 0), "so few are not: {codes:?}");
}

fn of_processes() {
    needs_user_namespaces();
    if !nix::unistd::geteuid().is_root() {
        skip("the limit counts all of this user's processes, and only root can be another");
    }
    let whole = whole();
    let mut codes = Vec::new();
    for most in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 32, 1024] {
        codes.push(run_within(&format!("nproc={most}:{most}"), &whole));
    }
    assert_eq!(codes.last(), Some(&0), "so many are enough: {codes:?}");
    assert!(codes.iter().any(|code| *code != 0), "so few are not: {codes:?}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![of_descriptors, of_processes,]
}
