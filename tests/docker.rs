//! Bottles on a real engine; where none answers, each test says so and does nothing.
#![cfg(target_os = "linux")]

use std::process::{Command as Process, Stdio};

use claude_bottle::backend::docker::plan::Step;
use claude_bottle::backend::docker::{Engine, Spec, cleanup, launch, owner::State};
use claude_bottle::bottle::{Bottle as _, Command, End};
use claude_bottle::host::Host;

/// The variable that tells the test `launcher` what bottle to launch, and after which step to wait for its end.
const KILLED: &str = "CLAUDE_BOTTLE_TEST_KILLED";

async fn engine() -> Option<Engine> {
    match Host::detect().docker {
        Ok(docker) => Some(Engine::connect(&docker.endpoint, "/proc").await.unwrap()),
        Err(lack) => {
            eprintln!("skipped: {lack}");
            None
        }
    }
}

fn spec(what: &str) -> Spec {
    Spec::new(format!("test-{what}-{:08x}", rand::random::<u32>()))
}

#[tokio::test]
async fn a_bottle_has_one_route_and_runs_commands() {
    let Some(engine) = engine().await else { return };
    let launched = Box::pin(launch(&engine, &spec("pair"), &|_| {})).await.unwrap();
    let toolbox = launched.bottle.toolbox().to_owned();
    let said = Command::new(&toolbox).args(["say", "out", "err", "126"]);
    let output = launched.bottle.exec(said).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.end), (&b"out\n"[..], End::Code(126)));
    let absent = launched.bottle.exec(Command::new("/absent")).await.unwrap();
    assert!(matches!(absent.end, End::NotStarted { .. }), "{:?}", absent.end);
    let table = std::fs::read_to_string(format!("/proc/{}/net/route", launched.agent.pid));
    assert_eq!(table.unwrap().lines().count(), 2, "a heading and one route");

    // A network that it is connected to brings another route: no command is run any more.
    let other = Box::pin(launch(&engine, &spec("other"), &|_| {})).await.unwrap();
    let request = bollard::models::NetworkConnectRequest {
        container: launched.agent.id.clone(),
        ..Default::default()
    };
    engine.docker().connect_network(&other.network, request).await.unwrap();
    let refused = launched.bottle.exec(Command::new(&toolbox).arg("version")).await.unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("there is another route"), "{why}");

    for bottle in [&launched.bottle, &other.bottle] {
        bottle.teardown().await.unwrap();
        assert_eq!(cleanup::find(&engine, Some(bottle.name())).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_launch_that_is_given_up_leaves_nothing() {
    let Some(engine) = engine().await else { return };
    let spec = spec("dropped");
    let (sender, mut reached) = tokio::sync::mpsc::unbounded_channel();
    let done = move |step| sender.send(step).unwrap();
    tokio::select! {
        _ = launch(&engine, &spec, &done) => panic!("it was given up before its end"),
        () = async { while reached.recv().await != Some(Step::Bundle) {} } => {}
    }
    assert_eq!(cleanup::find(&engine, Some(&spec.name)).await.unwrap(), []);
}

#[tokio::test]
async fn what_a_killed_launcher_left_is_found_and_removed() {
    let Some(engine) = engine().await else { return };
    let steps = [
        "Network",
        "Home",
        "Bundle",
        "Agent",
        "Pinner",
        "BundleRuns",
        "AgentRuns",
        "Pinned",
        "Greeted",
    ];
    for step in steps {
        let name = spec("killed").name;
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "launcher", "--nocapture"])
            .env(KILLED, format!("{name} {step}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let reached = std::io::BufRead::lines(output).map_while(Result::ok);
        assert!(reached.into_iter().any(|line| line.contains("reached")), "{step}");
        let found = cleanup::find(&engine, Some(&name)).await.unwrap();
        assert_eq!(found.len(), 1, "{step}");
        assert_eq!(found[0].state(), State::Alive, "{step}");
        child.kill().unwrap();
        child.wait().unwrap();
        // What was asked for before may still be on its way.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        for found in cleanup::find(&engine, Some(&name)).await.unwrap() {
            assert_eq!(found.state(), State::Dead, "{step}");
            found.remove(&engine).await.unwrap();
        }
        assert_eq!(cleanup::find(&engine, Some(&name)).await.unwrap(), [], "{step}");
    }
}

#[tokio::test]
#[ignore = "run by the test that kills it"]
async fn launcher() {
    let Ok(wanted) = std::env::var(KILLED) else { return };
    let (name, step) = wanted.split_once(' ').unwrap();
    let engine = engine().await.unwrap();
    let wait_there = |reached: Step| {
        if format!("{reached:?}") == step {
            println!("reached");
            loop {
                std::thread::park();
            }
        }
    };
    let _ = Box::pin(launch(&engine, &Spec::new(name), &wait_there)).await;
}
