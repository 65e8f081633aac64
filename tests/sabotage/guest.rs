//! A guest, or what holds it, that is killed half-way.

use std::fs;

use claude_bottle::probe::outcome::AttemptOutcome;
use claude_bottle::probe::verdict::Verdict;
use claude_bottle::report::exit_code;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::backend::{Moment, Run, Scene, assert_nothing_contained, inconclusive, probe, send};
use crate::trace::children;
use crate::trials::trials;

const PROBES: &[&str] = &["bundle-reach", "egress-port-bypass", "host-gateway", "loopback-reach"];

/// The bottle's first process: the one with a user namespace of its own.
fn bottle(scene: &Scene) -> u32 {
    let (_, inner) = scene.trace.helper().expect("a helper");
    let user = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    let found = children(inner).into_iter().find(|pid| user(*pid) != user(inner));
    found.expect("a bottle")
}

fn outer(scene: &Scene) -> u32 {
    scene.trace.helper().expect("a helper").0
}

fn inner(scene: &Scene) -> u32 {
    scene.trace.helper().expect("a helper").1
}

fn killed_before_the_attempts_all_is_inconclusive() {
    for victim in [bottle, outer, inner] {
        let deed = |moment: Moment<'_>, scene: &Scene| {
            if moment == Moment::Phase("probing") {
                send(victim(scene), Signal::SIGKILL);
            }
        };
        let run = Run::of(PROBES).outcome(deed);
        for probe in &run.probes {
            for why in inconclusive(probe) {
                assert!(!why.is_empty());
            }
        }
        assert_eq!(exit_code(&[run]), 3);
    }
}

fn killed_amid_the_attempts_nothing_is_contained() {
    type Victim = fn(&Scene) -> u32;
    let victims: [(Victim, bool); 3] = [(bottle, false), (outer, true), (inner, true)];
    for (victim, holds_the_lab) in victims {
        for done in [1, 2, 20] {
            let mut killed = false;
            let deed = |moment: Moment<'_>, scene: &Scene| {
                if matches!(moment, Moment::Attempts(count) if count >= done) && !killed {
                    killed = true;
                    send(victim(scene), Signal::SIGKILL);
                }
            };
            let run = Run::of(PROBES).outcome(deed);
            assert!(killed);
            // The prober may have said all that it had to say by then; the lab was needed longer.
            let unsaid = |attempt: &AttemptOutcome| {
                attempt.said.is_none() && !matches!(attempt.verdict, Verdict::Skipped { .. })
            };
            let mut attempts = run.probes.iter().flat_map(|probe| &probe.attempts);
            if holds_the_lab || attempts.any(unsaid) {
                assert_nothing_contained(&run);
            }
        }
    }
}

fn a_guest_that_stands_still_is_given_up() {
    // The shell is the prober, and waits for ever.
    let stuck = "while :; do sleep 1000; done";
    let run = Run::of(&["egress-port-bypass", "smoke-echo"]).with_prober(stuck).outcome(|_, _| {});
    let whys = inconclusive(probe(&run, "egress-port-bypass"));
    assert_eq!(whys, ["the prober did not run: it did not finish in time"]);
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        killed_before_the_attempts_all_is_inconclusive,
        killed_amid_the_attempts_nothing_is_contained,
        a_guest_that_stands_still_is_given_up,
    ]
}
