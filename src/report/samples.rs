//! Outcomes for the tests of the reports.

use std::time::Duration;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::How;

use super::text::Untrusted;
use crate::lab::Wiring;
use crate::probe::definition::{Expect, Severity, Site};
use crate::probe::outcome::{AttemptOutcome, Cost, ProbeOutcome, RunOutcome};
use crate::probe::verdict::{Evidence, Said, Verdict};

pub(crate) const HOSTILE: &str =
    "\x1b[2J\r\nnamespace\n]]></system-out></testcase><testcase name=\"forged\"/>\u{202e}";

pub(crate) fn contained() -> Verdict {
    Verdict::Contained { how: How::Refused }
}

pub(crate) fn reached() -> Verdict {
    Verdict::Reached
}

pub(crate) fn leaked() -> Verdict {
    Verdict::Leaked {
        evidence: Evidence {
            witness: "host-loopback tcp/9 at 0.0.0.0:9".to_owned(),
            peer: Some("10.0.0.2:4242".parse().unwrap()),
            saw: Nonce::from_bits(0x1234_5678_9abc_def0_1234_5678_9abc).to_string(),
            at: Duration::from_micros(3_042),
        },
    }
}

pub(crate) fn observed(saw: &str) -> Verdict {
    Verdict::Leaked {
        evidence: Evidence {
            witness: "the bottle's routes".to_owned(),
            peer: None,
            saw: saw.to_owned(),
            at: Duration::from_millis(11),
        },
    }
}

pub(crate) fn unreached(why: &str) -> Verdict {
    Verdict::Unreached { why: why.to_owned() }
}

pub(crate) fn inconclusive(why: &str) -> Verdict {
    Verdict::Inconclusive { why: why.to_owned() }
}

pub(crate) fn skipped(why: &str) -> Verdict {
    Verdict::Skipped { why: why.to_owned() }
}

pub(crate) fn attempt(what: &str, verdict: Verdict) -> AttemptOutcome {
    let how = match &verdict {
        Verdict::Contained { how } => *how,
        Verdict::Reached | Verdict::Leaked { .. } => How::Answered,
        _ => How::TimedOut,
    };
    let expect = match &verdict {
        Verdict::Reached | Verdict::Unreached { .. } => Expect::Reached,
        _ => Expect::Contained,
    };
    AttemptOutcome {
        what: what.to_owned(),
        site: Some(Site::HostLoopback),
        expect,
        control: Some("host (127.0.0.1:51423) reached it before and after".to_owned()),
        said: Some(Said {
            how,
            errno: (how == How::Refused).then_some(111),
            detail: None,
            took: Duration::from_micros(210),
        }),
        verdict,
    }
}

/// A probe with one attempt, unless it is skipped.
pub(crate) fn probe(name: &str, verdict: Verdict) -> ProbeOutcome {
    let attempts = match &verdict {
        Verdict::Skipped { .. } => vec![],
        _ => vec![attempt("tcp to host-loopback:discard as 127.0.0.1", verdict.clone())],
    };
    probe_of(name, verdict, attempts)
}

pub(crate) fn probe_of(
    name: &str,
    verdict: Verdict,
    attempts: Vec<AttemptOutcome>,
) -> ProbeOutcome {
    ProbeOutcome {
        name: name.to_owned(),
        title: format!("The title of {name}"),
        why: format!("The reason for {name}."),
        severity: Severity::High,
        verdict,
        known_leak: None,
        attempts,
        took: Duration::from_micros(3_120),
    }
}

pub(crate) fn known(probe: ProbeOutcome) -> ProbeOutcome {
    known_as(probe, "https://example.invalid/issues/7")
}

/// Its attempts expect the leak that is documented there.
fn known_as(mut probe: ProbeOutcome, reference: &str) -> ProbeOutcome {
    probe.known_leak = Some(reference.to_owned());
    for attempt in &mut probe.attempts {
        attempt.expect = Expect::Leaks;
    }
    probe
}

pub(crate) fn run(probes: Vec<ProbeOutcome>) -> RunOutcome {
    RunOutcome {
        backend: "namespace".to_owned(),
        breach: None,
        probes,
        cost: Cost {
            launch: Duration::from_micros(9_140),
            controls: Duration::from_micros(420),
            attempts: Duration::from_micros(12_300),
            judge: Duration::from_micros(110),
            teardown: Duration::from_micros(2_010),
        },
        notes: vec![],
        wiring: Wiring::default(),
        made_of: std::collections::BTreeMap::new(),
        expected: None,
    }
}

/// One of everything.
pub(crate) fn everything() -> RunOutcome {
    let to = |address: &str, verdict| {
        attempt(&format!("tcp to host-loopback:discard as {address}"), verdict)
    };
    let unreachable = || Verdict::Contained { how: How::Unreachable };
    let mut critical = probe("default-route", observed("default via 10.0.0.1 dev veth0"));
    critical.severity = Severity::Critical;
    critical.attempts.clear();
    let probes = vec![
        probe_of(
            "bundle-egress",
            contained(),
            vec![
                to("127.0.0.1", contained()),
                to("::1", unreachable()),
                to("::ffff:127.0.0.1", contained()),
            ],
        ),
        critical,
        known(probe("docker-dns", leaked())),
        known(probe("docker-gateway", contained())),
        probe("gateway-reach", unreached("the bundle's gateway took no connection")),
        probe("loopback-control", inconclusive("the control did not reach host-loopback tcp/9")),
        probe_of(
            "loopback-reach",
            leaked(),
            vec![to("127.0.0.1", contained()), to("127.1", leaked()), to("2130706433", leaked())],
        ),
        probe("metadata", skipped("no site metadata here")),
        probe("metadata-v6", skipped("no site metadata here")),
        probe("smoke-echo", reached()),
        probe("vsock", skipped("vsock_loopback is not loaded")),
    ];
    RunOutcome { notes: vec!["the bottle has no IPv6 at all".to_owned()], ..run(probes) }
}

/// A guest, a definition and an error message that all want to break a report.
pub(crate) fn hostile() -> RunOutcome {
    let mut one = attempt(HOSTILE, leaked());
    one.said.as_mut().unwrap().detail = Some(Untrusted::new(HOSTILE));
    one.control = Some(HOSTILE.to_owned());
    let mut leak = probe_of(HOSTILE, observed(HOSTILE), vec![one]);
    leak.title = HOSTILE.to_owned();
    leak.why = HOSTILE.to_owned();
    let known_leak = known_as(probe("known", leaked()), HOSTILE);
    let probes = vec![
        leak,
        known_leak,
        probe("skip", skipped(HOSTILE)),
        probe("unclear", inconclusive(HOSTILE)),
        probe("unreached", unreached(HOSTILE)),
    ];
    RunOutcome {
        backend: HOSTILE.to_owned(),
        breach: Some(HOSTILE.to_owned()),
        notes: vec![HOSTILE.to_owned()],
        ..run(probes)
    }
}
