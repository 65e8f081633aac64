//! What keeps a bottle of an engine in: looked at before every command, and undone here to show that the look is no mere
//! ceremony. Where no engine answers, or a tool to undo it with is missing, each test says so and does nothing.
#![cfg(target_os = "linux")]

use std::error::Error as _;
use std::process::Command as Process;

use claude_bottle::backend::docker::{DockerBottle, Engine, Launched, Spec, launch};
use claude_bottle::bottle::{Bottle as _, Command, End};
use claude_bottle::host::{Endpoint, Host};

/// Where the engine of this host listens.
fn endpoint() -> Option<Endpoint> {
    match Host::detect().docker {
        Ok(docker) => Some(docker.endpoint),
        Err(lack) => {
            eprintln!("skipped: {lack}");
            None
        }
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

#[tokio::test]
async fn whoever_unpins_a_bottle_stops_it() {
    let Some(endpoint) = endpoint() else { return };
    if let Some(missing) =
        ["nsenter", "ip", "nft"].iter().find(|program| which::which(program).is_err())
    {
        eprintln!("skipped: there is no {missing}");
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root enters a container's net namespace");
        return;
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
