//! The helper's own promises, where they cannot be seen through the handle to a bottle.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use claude_bottle_protocol::helper::{Lab, Process};
use tokio::io::AsyncReadExt as _;

use super::arena::bundle_environment;
use super::helper::{Built, Helper, HelperError, Started};
use super::world::{World, net};
use crate::host::Host;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A helper with a lab that stands; none where no namespace can be made.
async fn helper() -> Option<Arc<Helper>> {
    if let Err(lack) = Host::detect().user_namespaces {
        eprintln!("skipped: needs user-namespaces: {lack}");
        return None;
    }
    Some(Arc::new(Helper::launch().await.expect("a helper")))
}

/// The lab stands.
async fn build(
    helper: &Helper,
    lab: &Lab,
    adopted: Vec<OwnedFd>,
) -> Result<(Built, Started), HelperError> {
    let mut talk = helper.talk().await;
    let witness = talk.build(lab, adopted).await?;
    talk.ready().await?;
    Ok((talk.built().await?, witness))
}

#[tokio::test]
async fn the_bundles_init_runs_and_has_nothing_to_do() {
    let Some(helper) = helper().await else { return };
    let world = World::plan("test", None);
    let (_built, _witness) = build(&helper, &world.lab, Vec::new()).await.unwrap();
    let init = Process::Init { net: net::BUNDLE.into(), env: bundle_environment() };
    let mut bundle = helper.start(init).await.unwrap();
    let (mut said, mut aside) = (String::new(), Vec::new());
    let heard = async {
        while !said.contains("no daemons selected") {
            let mut read = Vec::new();
            let count = tokio::select! {
                count = bundle.stdio.read_buf(&mut read) => count.unwrap(),
                count = bundle.stderr.read_buf(&mut aside) => count.unwrap(),
            };
            assert_ne!(count, 0, "the end, after {said:?}");
            said.push_str(&String::from_utf8_lossy(&read));
            said.push_str(&String::from_utf8_lossy(&std::mem::take(&mut aside)));
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("it says so");
    // It idles until it is told to end.
    helper.kill(bundle.id).await.unwrap();
    assert_eq!(helper.exit_of(bundle.id).await.unwrap(), 128 + 9);
    helper.end().await.unwrap();
}

#[tokio::test]
async fn descriptors_that_did_not_arrive_are_missed() {
    let Some(helper) = helper().await else { return };
    let mut world = World::plan("test", None);
    let real = super::real::RealLoopback::open().unwrap();
    let mut descriptors = world.adopt(real);
    let came = descriptors.len() - 1;
    descriptors.pop();
    let error = build(&helper, &world.lab, descriptors).await.err().expect("one is missing");
    let expected = format!("cannot take over {} listeners: {came} descriptors came", came + 1);
    assert_eq!(error.to_string(), expected);
    helper.end().await.unwrap();
}

#[tokio::test]
async fn a_helper_that_does_not_hear_is_killed() {
    let Some(helper) = helper().await else { return };
    helper.talk().await.ready().await.expect("it is ready");
    let outer = helper.id().expect("it runs");
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let inner: i32 = children.trim().parse().unwrap();
    let inner = nix::unistd::Pid::from_raw(inner);
    nix::sys::signal::kill(inner, nix::sys::signal::Signal::SIGSTOP).unwrap();
    tokio::time::timeout(PATIENCE, helper.end()).await.expect("it ends").unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{outer}")).exists());
}
