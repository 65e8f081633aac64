//! Where no toolbox runs on this machine, the witness and the controls are this very process': the same is told by them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use claude_bottle::backend::external::{Allowed, External};
use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::outcome::ProbeOutcome;
use claude_bottle::probe::parse::Known;
use claude_bottle::probe::run::run;
use claude_bottle::probe::verdict::Verdict;
use libtest_mimic::Trial;

use crate::trials::trials;

async fn probed(command: &str, allowed: Vec<Allowed>) -> BTreeMap<String, ProbeOutcome> {
    let backend = External::new(command.parse().unwrap()).serving_itself().allowing(allowed);
    let catalogue = Catalogue::embedded(Known::all()).unwrap();
    let wanted = ["loopback-reach", "host-gateway", "abstract-socket", "unix-path-socket"];
    let all = catalogue.probes().iter();
    let probes = all.filter(|probe| wanted.contains(&probe.name.as_str())).cloned().collect();
    let probes = backend.probes(probes).unwrap();
    let outcome = run(&backend, &probes, None, &(), &()).await.unwrap();
    assert_eq!(outcome.notes, [""; 0]);
    outcome.probes.into_iter().map(|probe| (probe.name.clone(), probe)).collect()
}

fn is_skipped(probe: &ProbeOutcome) -> bool {
    matches!(&probe.verdict, Verdict::Skipped { why } if why.contains("it takes Linux"))
}

#[tokio::main]
async fn no_sandbox_at_all_leaks() {
    let told = probed("sh -c", Vec::new()).await;
    for probe in ["loopback-reach", "host-gateway"] {
        assert!(matches!(told[probe].verdict, Verdict::Leaked { .. }), "{:?}", told[probe]);
    }
    // It says what it does not serve.
    for probe in ["abstract-socket", "unix-path-socket"] {
        assert!(is_skipped(&told[probe]), "{:?}", told[probe]);
    }
}

#[tokio::main]
async fn a_sandbox_without_a_network_is_contained() {
    let told = probed("unshare -rn {toolbox}", Vec::new()).await;
    for probe in ["loopback-reach", "host-gateway"] {
        let outcome = &told[probe];
        assert!(matches!(outcome.verdict, Verdict::Contained { .. }), "{outcome:?}");
        // Each by a control of this process'.
        let tried = outcome.attempts.iter().filter(|one| one.control.is_some()).count();
        assert!(tried > 0, "{outcome:?}");
    }
}

/// What it must reach is the sign of life as well.
#[tokio::main]
async fn what_must_be_reached_is_looked_at() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let allowed = |address: SocketAddr| vec![address.to_string().parse().unwrap()];
    let told = probed("sh -c", allowed(free)).await;
    let reached = told.values().filter(|one| one.verdict == Verdict::Reached).count();
    assert_eq!(reached, 1, "{told:?}");
    let told = probed("unshare -rn {toolbox}", allowed(free)).await;
    let unreached = told.values().any(|one| matches!(one.verdict, Verdict::Unreached { .. }));
    assert!(unreached, "{told:?}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        no_sandbox_at_all_leaks,
        a_sandbox_without_a_network_is_contained,
        what_must_be_reached_is_looked_at,
    ]
}
