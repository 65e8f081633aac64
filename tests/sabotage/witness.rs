//! A witness that dies, stands still, or loses something.

use std::net::{SocketAddr, TcpStream, UdpSocket};

use claude_bottle::breach::Breach;
use claude_bottle::probe::verdict::Verdict;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use crate::backend::{Moment, Run, Scene, inconclusive, probe, send};
use crate::trials::trials;

const PROBES: &[&str] = &["bundle-reach", "egress-port-bypass", "loopback-reach"];

fn killing_at(phase: &'static str) -> impl FnMut(Moment<'_>, &Scene) + Send {
    move |moment, scene| {
        if moment == Moment::Phase(phase) {
            send(scene.witness(), Signal::SIGKILL);
        }
    }
}

fn a_witness_that_dies_leaves_nothing_to_judge_by() {
    for phase in ["probing", "closing the window"] {
        let run = Run::of(PROBES).outcome(killing_at(phase));
        for name in ["egress-port-bypass", "loopback-reach"] {
            for why in inconclusive(probe(&run, name)) {
                assert_eq!(why, "the witness died", "{phase}");
            }
        }
        // What it had seen counts.
        let reached = probe(&run, "bundle-reach").verdict == Verdict::Reached;
        assert_eq!(reached, phase != "probing", "{phase}");
    }
}

fn a_leak_that_was_seen_outlives_the_witness() {
    let run = Run::of(PROBES).with_breach(Breach::SharedNetworkNamespace);
    let run = run.outcome(killing_at("closing the window"));
    let leaked = &probe(&run, "loopback-reach").verdict;
    assert!(matches!(leaked, Verdict::Leaked { .. }), "{leaked:?}");
}

fn a_witness_that_stands_still_leaves_nothing_to_judge_by() {
    let stopping = |moment: Moment<'_>, scene: &Scene| {
        if moment == Moment::Phase("closing the window") {
            send(scene.witness(), Signal::SIGSTOP);
        }
    };
    let run = Run::of(PROBES).outcome(stopping);
    for why in inconclusive(probe(&run, "egress-port-bypass")) {
        assert_eq!(why, "the witness did not drain within 5 s");
    }
}

/// While the witness is stopped somebody floods one listener; then it goes on as if nothing had happened.
fn flooding(
    listener: &'static str,
    flood: impl Fn(SocketAddr) + Send,
) -> impl FnMut(Moment<'_>, &Scene) + Send {
    move |moment, scene| {
        if moment == Moment::Phase("probing") {
            send(scene.witness(), Signal::SIGSTOP);
            flood(scene.listener(listener));
            send(scene.witness(), Signal::SIGCONT);
        }
    }
}

const LOST: &str = "the witness lost something while it listened";

/// Only what concerns the flooded listener is in doubt.
#[track_caller]
fn assert_lost(run: &claude_bottle::probe::outcome::RunOutcome, method: &str) {
    let flooded = probe(run, "loopback-reach");
    assert!(matches!(flooded.verdict, Verdict::Inconclusive { .. }), "{flooded:#?}");
    for attempt in &flooded.attempts {
        let meant = format!("{method} to real-loopback:random as 127.0.0.1");
        match &attempt.verdict {
            Verdict::Inconclusive { why } if attempt.what == meant => assert_eq!(why, LOST),
            verdict => {
                assert_ne!(attempt.what, meant, "{verdict:?}");
                let elsewhere = attempt.what.contains("host-loopback");
                let sound = matches!(verdict, Verdict::Contained { .. });
                assert!(sound || !elsewhere, "{}: {verdict:?}", attempt.what);
            }
        }
    }
    assert_eq!(probe(run, "bundle-reach").verdict, Verdict::Reached);
}

fn datagrams_that_found_no_room_are_noticed() {
    let flood = |address| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for _ in 0..4000 {
            socket.send_to(&[0; 512], address).expect("send");
        }
    };
    let flooding = flooding("real-loopback udp/random", flood);
    let run = Run::of(PROBES).outcome(flooding);
    assert_lost(&run, "udp");
}

fn connections_that_found_no_room_are_noticed() {
    let flood = |address: SocketAddr| {
        let address = SockaddrStorage::from(address);
        let mut tried = Vec::new();
        // More than a listener's queue holds.
        for _ in 0..900 {
            let (family, kind) = (AddressFamily::Inet, SockType::Stream);
            let one = socket(family, kind, SockFlag::empty(), None).expect("a socket");
            let one = TcpStream::from(one);
            one.set_nonblocking(true).expect("no waiting");
            let _ = connect(std::os::fd::AsRawFd::as_raw_fd(&one), &address);
            tried.push(one);
        }
    };
    let flooding = flooding("real-loopback tcp/random", flood);
    let run = Run::of(PROBES).outcome(flooding);
    assert_lost(&run, "tcp");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_witness_that_dies_leaves_nothing_to_judge_by,
        a_leak_that_was_seen_outlives_the_witness,
        a_witness_that_stands_still_leaves_nothing_to_judge_by,
        datagrams_that_found_no_room_are_noticed,
        connections_that_found_no_room_are_noticed,
    ]
}
