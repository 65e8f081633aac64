//! What keeps a bottle of an engine in: looked at before every command, and undone here to show that the look is no mere
//! ceremony; in force while one runs.

use std::error::Error as _;
use std::process::Command as Process;

use claude_bottle::backend::docker::spec::Mount;
use claude_bottle::backend::docker::{DockerBottle, Engine, Launched, Spec, launch};
use claude_bottle::bottle::{Bottle as _, Command, End};
use claude_bottle::host::{Endpoint, Host};
use libtest_mimic::Trial;

use crate::trials::{skip, trials};

/// Where the engine of this host listens.
fn endpoint() -> Endpoint {
    match Host::detect().docker {
        Ok(docker) => docker.endpoint,
        Err(lack) => skip(format!("needs docker: {lack}")),
    }
}

fn spec(what: &str) -> Spec {
    Spec::new(format!("test-{what}-{:08x}", rand::random::<u32>()))
}

async fn launched(engine: &Engine, what: &str) -> Launched {
    Box::pin(launch(engine, &spec(what), &|_| {})).await.unwrap()
}

/// Runs a program in the net namespace of a process, as the host's root.
fn in_net_of(pid: i64, words: &str) {
    let mut nsenter = Process::new("nsenter");
    nsenter.arg("--net").arg(format!("--target={pid}")).args(words.split(' '));
    let output = nsenter.output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Why no command is run in the bottle.
async fn refusal(bottle: &DockerBottle) -> Option<String> {
    let said = Command::new(bottle.toolbox()).args(["say", "out", "err", "0"]);
    match bottle.exec(said).await {
        Ok(output) => {
            assert_eq!(output.end, End::Code(0));
            None
        }
        Err(error) => Some(error.source().expect("a reason").to_string()),
    }
}

/// What is done to a pinned net namespace, how it is undone, and what is then said of it.
const UNPINNED: &[(&str, &str, &str)] = &[
    ("ip route add 10.99.0.0/24 dev eth0", "ip route del 10.99.0.0/24", "there is another route"),
    (
        "ip link add cbtest0 up type veth peer name cbtest1",
        "ip link del cbtest0",
        "there is another interface",
    ),
    (
        "nft add table inet claude-bottle { flags dormant; }",
        "nft add table inet claude-bottle",
        "the packet filter is not as it was made: a Table is missing",
    ),
    (
        "nft add chain inet claude-bottle output { policy accept; }",
        "nft add chain inet claude-bottle output { policy drop; }",
        "the packet filter is not as it was made: a Chain is missing",
    ),
    (
        "nft add rule netdev claude-bottle egress accept",
        "true",
        "the packet filter is not as it was made: 7 of Rule instead of 6",
    ),
];

#[tokio::main(flavor = "current_thread")]
async fn whoever_unpins_a_bottle_stops_it() {
    let endpoint = endpoint();
    if let Some(missing) =
        ["nsenter", "ip", "nft"].iter().find(|program| which::which(program).is_err())
    {
        skip(format!("there is no {missing}"));
    }
    if !nix::unistd::geteuid().is_root() {
        skip("only root enters a container's net namespace");
    }
    // By a process of this host, and by a container, for those who may not or cannot have one.
    for proc in ["/proc", "/nowhere"] {
        let engine = Engine::connect(&endpoint, proc).await.unwrap();
        let Launched { bottle, agent, .. } = launched(&engine, "unpinned").await;
        for (unpin, undo, told) in UNPINNED {
            assert_eq!(refusal(&bottle).await, None, "{proc}: before {unpin}");
            in_net_of(agent.pid, unpin);
            let why = refusal(&bottle).await.unwrap_or_default();
            assert!(why.contains(told), "{proc}: {unpin}: {why:?}");
            in_net_of(agent.pid, undo);
        }
        bottle.teardown().await.unwrap();
    }
}

/// A bottle whose commands have a busybox.
fn with_busybox(what: &str, busybox: &std::path::Path) -> Spec {
    let mut spec = spec(what);
    let (source, target) = (busybox.display().to_string(), "/busybox".to_owned());
    spec.mounts.push(Mount { source, target, writable: false });
    spec
}

/// What a command says that was started before its bottle was connected to another's network, and dials that one afterwards.
async fn said_over_a_new_network(engine: &Engine, own: &Spec, other: &Launched) -> String {
    let launched = Box::pin(launch(engine, own, &|_| {})).await.unwrap();
    let at = other.plan.agent_address;
    let script = format!("read go; /busybox nc -w 3 {at} 7777 </dev/null || echo kept");
    let shell = Command::new("/busybox").args(["sh", "-c", &script]).stream_stdin();
    let mut running = launched.bottle.start(shell).await.unwrap();
    let request = bollard::models::NetworkConnectRequest {
        container: launched.agent.id.clone(),
        ..Default::default()
    };
    engine.docker().connect_network(&other.network, request).await.unwrap();
    let mut stdin = running.take_stdin().unwrap();
    stdin.write(b"go\n").await.unwrap();
    let output = running.output().await.unwrap();
    launched.bottle.teardown().await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::main(flavor = "current_thread")]
async fn a_network_that_comes_while_a_command_runs_is_no_way_out() {
    let endpoint = endpoint();
    let Ok(busybox) = which::which("busybox") else {
        skip("there is no busybox");
    };
    let engine = Engine::connect(&endpoint, "/proc").await.unwrap();
    // One that lets everybody in.
    let mut open = with_busybox("other", &busybox);
    open.holes.unpinned_routes = true;
    let other = Box::pin(launch(&engine, &open, &|_| {})).await.unwrap();
    let serve = ["nc", "-ll", "-p", "7777", "-e", "/busybox", "echo", "through"];
    let _serving = other.bottle.start(Command::new("/busybox").args(serve)).await.unwrap();

    let mut own = with_busybox("connected", &busybox);
    assert_eq!(said_over_a_new_network(&engine, &own, &other).await, "kept\n");
    // The same without the filter: it is not for want of a way, or of somebody there.
    own.holes.unfiltered = true;
    assert_eq!(said_over_a_new_network(&engine, &own, &other).await, "through\n");
    other.bottle.teardown().await.unwrap();
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        whoever_unpins_a_bottle_stops_it,
        a_network_that_comes_while_a_command_runs_is_no_way_out,
    ]
}
