//! Bottles under test on the machine's own engine.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use claude_bottle::backend::docker::owner::Held;
use claude_bottle::backend::docker::{Engine, cleanup};
use claude_bottle::host::{Endpoint, Host};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::net::{TcpListener, UnixStream};

use crate::trials::{skip, trials};
use crate::wait;

/// Where the engine's socket is.
fn socket() -> PathBuf {
    match Host::detect().docker {
        Ok(docker) => match docker.endpoint {
            Endpoint::Unix(path) => path,
            other @ Endpoint::Tcp { .. } => skip(format!("needs an engine's socket, not {other}")),
        },
        Err(lack) => skip(format!("needs docker: {lack}")),
    }
}

fn probe(arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
    program.args(["probe", "--backend", "docker", "--engine", "system", "--quiet"]).args(arguments);
    program
}

/// What was reported of each probe, and how it ended.
fn reported(program: &mut Command) -> (Vec<Value>, Output) {
    let folder = tempfile::tempdir().unwrap();
    // Whoever runs it may write there.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let report = folder.path().join("report.json");
    let output = program.arg("--json").arg(&report).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = std::fs::read_to_string(&report).unwrap_or_else(|_| panic!("{said}{complained}"));
    let report: Value = serde_json::from_str(&text).unwrap();
    let probes =
        report["runs"].as_array().unwrap().iter().flat_map(|run| run["probes"].as_array().unwrap());
    (probes.cloned().collect(), output)
}

/// How each probe came out, and the exit code.
fn verdicts(program: &mut Command) -> (Vec<(String, String)>, Output) {
    let (probes, output) = reported(program);
    let word = |probe: &Value, key: &str| probe[key].as_str().unwrap_or_default().to_owned();
    let verdict = |probe: &Value| (word(probe, "name"), word(&probe["verdict"], "verdict"));
    (probes.iter().map(verdict).collect(), output)
}

/// Probes whose witnesses stand at different places.
const PROBES: &[&str] = &[
    "host-gateway",
    "egress-port-bypass",
    "neighbour-reach",
    "loopback-reach",
    "abstract-socket",
    "unix-path-socket",
];

/// All of them, and nothing was inconclusive.
fn are_contained(verdicts: &[(String, String)]) {
    let contained = verdicts.iter().filter(|(_, verdict)| verdict == "contained");
    assert_eq!(contained.count(), PROBES.len(), "{verdicts:?}");
}

/// What runs have left on the engine.
async fn left() -> Vec<String> {
    let engine = Engine::of_host(&Host::detect()).await.unwrap();
    let found = cleanup::find(&engine, None).await.unwrap();
    // Those of other tests are named otherwise, and one of them kills its launchers.
    let probed = found.into_iter().filter(|found| found.name.starts_with("bottle-"));
    probed.filter(|found| found.traces().held() == Held::Left).map(|found| found.name).collect()
}

/// Nothing is but what was left `before`, by others.
async fn nothing_is_left_since(before: &[String]) {
    let mut ours = left().await;
    ours.retain(|name| !before.contains(name));
    assert_eq!(ours, [] as [String; 0]);
}

fn a_sound_bottle_is_contained_where_a_witness_can_stand_and_skipped_elsewhere() {
    wait(async {
        socket();
        let before = left().await;
        let (verdicts, output) = verdicts(&mut probe(&[]));
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let of = |name: &str| verdicts.iter().find(|(probe, _)| probe == name).unwrap().1.as_str();
        for name in [
            "host-gateway",
            "loopback-reach",
            "abstract-socket",
            "unix-path-socket",
            "inbound",
            "neighbour-reach",
            "egress-port-bypass",
            "route-change",
        ] {
            assert_eq!(of(name), "contained", "{name}: {said}");
        }
        // What leads out of the machine has no witness here.
        for name in ["internet-tcp", "metadata", "resolver-exfiltration"] {
            assert_eq!(of(name), "skipped", "{name}: {said}");
        }
        assert!(
            said.contains("nothing is dialled but what a witness of the run is bound to"),
            "{said}"
        );
        nothing_is_left_since(&before).await;
    });
}

fn each_breach_is_noticed_by_exactly_the_declared_probes() {
    wait(async {
        socket();
        let before = left().await;
        let (_, output) = verdicts(&mut probe(&["--breach", "all"]));
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(
            said.contains("not tried: open-network is made on a private engine alone"),
            "{said}"
        );
        nothing_is_left_since(&before).await;
    });
}

/// It reaches the run's own listeners by loopback, and opens nothing.
fn in_the_machines_network_nothing_is_tried_but_to_dial_the_runs_own_listeners() {
    socket();
    let wanted = ["--breach", "host-network", "loopback-reach", "abstract-socket", "inbound"];
    let (probes, output) = reported(&mut probe(&wanted));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    for probe in &probes {
        let expected = if probe["name"] == "inbound" { "skipped" } else { "leaked" };
        assert_eq!(probe["verdict"]["verdict"], expected, "{probe:#}");
        for attempt in probe["attempts"].as_array().unwrap() {
            let (what, why) =
                (attempt["what"].as_str().unwrap(), attempt["verdict"]["why"].as_str());
            // Somebody else may listen on the real port 9.
            let is_taken =
                what.contains(":discard") && why.is_some_and(|why| why.contains("in use"));
            let is_ours = what.contains(" to real-") && !is_taken;
            let expected = if is_ours { "leaked" } else { "skipped" };
            assert_eq!(attempt["verdict"]["verdict"], expected, "{attempt:#}");
        }
    }
}

/// Frames, echoes and datagrams made by hand all have somebody who would see them.
fn raw_sockets_are_tried_by_every_method() {
    socket();
    let (probes, output) = reported(&mut probe(&["raw-and-packet-sockets", "icmp-echo"]));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    for attempt in probes.iter().flat_map(|probe| probe["attempts"].as_array().unwrap()) {
        assert_eq!(attempt["verdict"]["verdict"], "contained", "{attempt:#}");
    }
}

fn what_would_open_the_bottle_to_the_outside_is_refused() {
    socket();
    for breach in ["open-network", "privileged", "unpinned-resolver"] {
        let refused = probe(&["--breach", breach]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{breach}");
        let why = String::from_utf8_lossy(&refused.stderr);
        assert!(why.contains("is made on a private engine alone"), "{why}");
    }
}

fn an_ordinary_user_in_the_engines_group_may_do_it() {
    let socket = socket();
    if !nix::unistd::geteuid().is_root() {
        skip("only root can become somebody else");
    }
    let socket = std::fs::metadata(socket).unwrap();
    if socket.gid() == 0 || socket.mode() & 0o060 != 0o060 {
        skip("the engine's socket has no group of its own");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = folder.path().join("claude-bottle");
    std::fs::copy(env!("CARGO_BIN_EXE_claude-bottle"), &copy).unwrap();
    let mut program = Command::new(copy);
    program.args(["probe", "--backend", "docker", "--quiet"]).args(PROBES);
    program.uid(65534).gid(socket.gid()).current_dir(folder.path());
    // Without a word of root, the default is this engine.
    program.env_remove("CLAUDE_BOTTLE_DOCKER_ENGINE");
    let (verdicts, output) = verdicts(&mut program);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    are_contained(&verdicts);
}

fn an_engine_that_listens_on_tcp_does_as_well() {
    wait(async {
        let socket = socket();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forwarding = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    let mut engine = UnixStream::connect(socket).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
                });
            }
        });
        let at = format!("tcp://{address}");
        let probed =
            tokio::task::spawn_blocking(move || verdicts(probe(PROBES).env("DOCKER_HOST", at)));
        let (verdicts, output) = probed.await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        are_contained(&verdicts);
        forwarding.abort();
    });
}

fn a_word_that_is_no_kind_of_engine_is_never_green() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
    program.args(["probe", "--backend", "docker", "smoke-echo", "host-gateway"]);
    let output = program.env("CLAUDE_BOTTLE_DOCKER_ENGINE", "podman").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("there are private and system"), "{said}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_sound_bottle_is_contained_where_a_witness_can_stand_and_skipped_elsewhere,
        each_breach_is_noticed_by_exactly_the_declared_probes,
        in_the_machines_network_nothing_is_tried_but_to_dial_the_runs_own_listeners,
        raw_sockets_are_tried_by_every_method,
        what_would_open_the_bottle_to_the_outside_is_refused,
        an_ordinary_user_in_the_engines_group_may_do_it,
        an_engine_that_listens_on_tcp_does_as_well,
        a_word_that_is_no_kind_of_engine_is_never_green,
    ]
}
