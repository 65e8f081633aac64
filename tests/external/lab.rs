//! `--lab`: the whole command on a stand-in host, with a world around it.

use std::os::unix::process::CommandExt as _;

use libtest_mimic::Trial;

use crate::suite::{BARE, breaks, needs_bubblewrap, needs_namespaces, told_with, works};
use crate::trials::{skip, trials};

const LAB: &[&str] = &["--lab"];

fn no_sandbox_at_all_reaches_the_world() {
    needs_namespaces();
    let text = told_with("sh -c", &["--lab", "-v"], 1);
    for probe in [
        "abstract-socket",
        "control-plane-api",
        "host-gateway",
        "internet-tcp",
        "internet-udp",
        "internet-v6",
        "loopback-reach",
        "metadata",
        "neighbour-reach",
        "private-ranges",
        "rebinding",
        "resolver-exfiltration",
        "unix-path-socket",
    ] {
        assert!(breaks(&text, probe), "{probe}: {text}");
    }
    // The machine itself is not what is reached.
    assert!(text.contains("tcp to real-loopback:random as 127.0.0.1  contained"), "{text}");
    assert_eq!(
        text.matches("does not hold\n").count(),
        text.matches("To close it: ").count(),
        "{text}"
    );
}

fn a_sandbox_is_told_from_none() {
    needs_bubblewrap();
    let closed =
        ["host-gateway", "internet-tcp", "internet-v6", "loopback-reach", "metadata", "inbound"];
    let output = told_with(&format!("{BARE} --unshare-net --cap-drop ALL"), LAB, 1);
    for probe in closed {
        assert!(!breaks(&output, probe), "{probe}: {output}");
    }
    assert!(!output.contains("Could not be judged"), "{output}");
    // A user without capabilities may still make namespaces in there, and sockets that none holds; that is all.
    assert!(breaks(&output, "namespace-escape") && breaks(&output, "foreign-sockets"), "{output}");
    assert_eq!(output.matches("does not hold\n").count(), 2, "{output}");
    let open = told_with(BARE, LAB, 1);
    assert!(breaks(&open, "internet-tcp") && breaks(&open, "metadata"), "{open}");

    let bare = told_with("unshare -rn {toolbox}", LAB, 1);
    assert!(!breaks(&bare, "internet-tcp") && !breaks(&bare, "metadata"), "{bare}");
    // Its root may change its own network, and sees the host's files.
    assert!(breaks(&bare, "route-change") && breaks(&bare, "unix-path-socket"), "{bare}");
}

/// No capabilities, no further user namespaces, nothing of the host's but programs: closed to the whole catalogue but for
/// what only a filter on system calls refuses, which bubblewrap has to be given.
fn a_sandbox_can_be_closed_to_all_but_system_calls() {
    let closed = format!("{BARE} --unshare-all --unshare-user --disable-userns --cap-drop ALL");
    if !works(&format!("{closed} true")) {
        skip("bubblewrap is not installed, or has no --disable-userns");
    }
    needs_namespaces();
    let text = told_with(&closed, LAB, 1);
    assert!(!text.contains("Could not be judged"), "{text}");
    assert!(breaks(&text, "foreign-sockets"), "{text}");
    assert_eq!(text.matches("does not hold\n").count(), 1, "{text}");
}

/// Whoever is no root is none on the stand-in host either: bubblewrap gives its sandbox no capabilities then.
fn an_ordinary_user_is_one_in_the_lab() {
    if !nix::unistd::geteuid().is_root() {
        skip("run by one, the other tests show it");
    }
    needs_bubblewrap();
    let folder = tempfile::tempdir().unwrap();
    let everybody = || std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let copy = folder.path().join("claude-bottle");
    std::fs::set_permissions(folder.path(), everybody()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_claude-bottle"), &copy).unwrap();
    std::fs::set_permissions(&copy, everybody()).unwrap();
    let command = format!("{BARE} --unshare-net");
    let mut program = std::process::Command::new(copy);
    program.args(["probe", "-q", "--lab", "--in", &command]).current_dir("/").env("HOME", "/");
    let output = program.uid(65534).gid(65534).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(breaks(&text, "namespace-escape") && breaks(&text, "foreign-sockets"), "{text}");
    assert_eq!(text.matches("does not hold\n").count(), 2, "{text}");
}

fn an_address_of_the_world_can_be_allowed() {
    needs_namespaces();
    let text = told_with("sh -c", &["--lab", "--allow", "1.1.1.1:443", "-v"], 1);
    assert!(text.contains("The sandbox reaches what it is said to reach"), "{text}");
    assert!(text.contains("it may be reached there, as --allow says"), "{text}");
    let text = told_with("sh -c", &["--lab", "--allow", "192.0.2.77:443"], 2);
    assert!(text.contains("nobody in the lab has this address"), "{text}");
}

fn a_client_of_an_engine_is_wrong_usage_in_the_lab() {
    let text = told_with("docker run --rm -i --network none busybox", LAB, 2);
    assert!(
        text.contains("docker has the sandbox made by somebody who is not in the lab"),
        "{text}"
    );
}

fn what_an_engine_outside_makes_is_not_in_the_lab() {
    needs_namespaces();
    // A process outside of the lab runs the toolbox, as an engine's daemon would; its client is all that is in there.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "666", &path("in"), &path("out"), &path("go")])
        .status();
    assert!(made.unwrap().success());
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    let daemon = format!(
        "read toolbox <{go}; exec \"$toolbox\" <{i} >{o}",
        go = path("go"),
        i = path("in"),
        o = path("out")
    );
    let mut daemon = std::process::Command::new("sh").args(["-c", &daemon]).spawn().unwrap();
    let client = format!(
        "echo {{toolbox}} >{go}; cat <{o} & exec cat >{i}",
        go = path("go"),
        i = path("in"),
        o = path("out")
    );
    let text = told_with(&format!("sh -c '{client}'"), LAB, 3);
    assert!(text.contains("it was made outside of the lab"), "{text}");
    assert!(!text.contains("Not as it should be"), "{text}");
    let _ = daemon.kill();
    let _ = daemon.wait();
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        no_sandbox_at_all_reaches_the_world,
        a_sandbox_is_told_from_none,
        a_sandbox_can_be_closed_to_all_but_system_calls,
        an_ordinary_user_is_one_in_the_lab,
        an_address_of_the_world_can_be_allowed,
        a_client_of_an_engine_is_wrong_usage_in_the_lab,
        what_an_engine_outside_makes_is_not_in_the_lab,
    ]
}
