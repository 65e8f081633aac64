//! Runs beside each other, and beside whoever else uses the real loopback.

use std::net::{TcpListener, UdpSocket};

use libtest_mimic::Trial;

use crate::run::{CROWD, Marked, Who, verdicts};
use crate::trials::{needs_user_namespaces, trials};

/// Those that nobody else's load makes wait: eight runs on a small machine are load enough.
const PROBES: &[&str] =
    &["bundle-reach", "egress-port-bypass", "host-gateway", "loopback-reach", "smoke-echo"];

/// Starts runs at once and tells what each found out.
fn at_once(count: usize) -> Vec<Vec<(String, String, String, String)>> {
    let folder = tempfile::tempdir().expect("a folder");
    let runs: Vec<_> = (0..count)
        .map(|number| {
            let json = folder.path().join(format!("{number}.json"));
            let arguments = ["probe", "-q", "--json", json.to_str().expect("UTF-8")];
            let marked = Marked::program(Who::Myself, &arguments).args(PROBES);
            (std::thread::spawn(move || marked.ends()), json)
        })
        .collect();
    let ended: Vec<_> =
        runs.into_iter().map(|(run, json)| (run.join().expect("a run"), json)).collect();
    ended
        .into_iter()
        .map(|(ended, json)| {
            assert_eq!(ended.code(), 0, "{}{}", ended.out, ended.err);
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let one = |(probe, what, verdict): (_, _, serde_json::Value)| {
                (probe, what, text(&verdict["verdict"]), text(&verdict["why"]))
            };
            verdicts(&json).into_iter().map(one).collect()
        })
        .collect()
}

fn runs_do_not_disturb_each_other() {
    needs_user_namespaces();
    let _alone = CROWD.write();
    for count in [2, 8] {
        for found in at_once(count) {
            assert!(found.len() > 20, "{found:?}");
            for (probe, what, verdict, why) in found {
                // One port there is once, for all of them.
                let free = !what.contains("real-loopback:discard");
                let fine = matches!(verdict.as_str(), "contained" | "reached");
                assert!(fine || !free && verdict == "skipped", "{probe}: {what}: {verdict} {why}");
            }
        }
    }
}

fn a_port_that_somebody_else_has_is_skipped_and_the_others_are_judged() {
    needs_user_namespaces();
    // Kept by us, by a run beside us, or by somebody else: taken in any case; or not to be had by this user.
    let tcp = TcpListener::bind(("127.0.0.1", 9));
    let udp = UdpSocket::bind(("127.0.0.1", 9));
    let expected =
        if tcp.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
            "listening on the real port 9 needs root or CAP_NET_BIND_SERVICE"
        } else {
            "somebody else listens on the real port 9"
        };
    let found = at_once(1).remove(0);
    drop((tcp, udp));
    let (discard, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(_, what, ..)| what.contains("real-loopback:discard"));
    assert!(discard.len() >= 2 && others.len() > 20, "{discard:?}");
    for (_, what, verdict, why) in discard {
        assert_eq!((verdict.as_str(), why.as_str()), ("skipped", expected), "{what}");
    }
    for (probe, what, verdict, why) in others {
        assert!(
            matches!(verdict.as_str(), "contained" | "reached"),
            "{probe}: {what}: {verdict} {why}"
        );
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        runs_do_not_disturb_each_other,
        a_port_that_somebody_else_has_is_skipped_and_the_others_are_judged,
    ]
}
