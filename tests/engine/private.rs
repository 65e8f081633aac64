//! An engine of one's own: it is a whole host, and nothing of it is left.

use std::path::{Path, PathBuf};

use claude_bottle::backend::docker::Engine;
use claude_bottle::backend::docker::private::{EngineError, PrivateEngine};
use claude_bottle::host::{Endpoint, Host};
use claude_bottle_protocol::helper::{Lab, Net};
use libtest_mimic::Trial;

use crate::trials::{skip, trials};

fn lab() -> Lab {
    let host = Net { name: "host".into(), forward: true, ..Net::default() };
    Lab { nets: vec![host], ..Lab::default() }
}

/// Ends the test as ignored where there is none.
fn needs_engine() {
    if let Some(why) = Host::detect().lacks_private_engine() {
        skip(why);
    }
}

#[tokio::main]
async fn it_answers_and_leaves_nothing() {
    needs_engine();
    let engine = PrivateEngine::start(&lab(), "host").await.unwrap();
    let client = Engine::connect(&Endpoint::Unix(engine.socket()), "/proc").await.unwrap();
    assert_eq!(client.docker().ping().await.unwrap(), "OK");
    let daemon =
        engine.inside(&Path::new("/proc").join(engine.pid_of_daemon().unwrap().to_string()));
    assert_eq!(std::fs::read_to_string(daemon.join("comm")).unwrap(), "dockerd\n");
    let net = std::fs::read_link(daemon.join("ns/net")).unwrap();
    let host = engine.inode("host").unwrap();
    assert_eq!(net, PathBuf::from(format!("net:[{host}]")), "it is in the lab's host");
    // What the engine would make for its containers.
    let group = cgroups_of(&engine).join("container");
    std::fs::create_dir_all(&group).unwrap();
    assert!(!Path::new("/run/exec").exists(), "its files are its own");
    let pid = engine.pid();
    engine.end().await.unwrap();
    assert!(!daemon.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!group.parent().unwrap().exists());
}

/// The group that this engine's containers would be in, in some hierarchy.
fn cgroups_of(engine: &PrivateEngine) -> PathBuf {
    let line = std::fs::read(format!("/proc/{}/cmdline", engine.pid())).unwrap();
    let line = String::from_utf8_lossy(&line);
    let name = line.split('\0').find(|word| word.starts_with("claude-bottle-")).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup")).unwrap();
    Path::new(line.split(' ').nth(4).unwrap()).join(name)
}

#[tokio::main]
async fn a_net_that_is_not_there_is_told() {
    needs_engine();
    match PrivateEngine::start(&lab(), "nowhere").await {
        Err(EngineError::Host(why)) => assert!(why.to_string().contains("nowhere"), "{why}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![it_answers_and_leaves_nothing, a_net_that_is_not_there_is_told]
}
