//! Machines under test beside an engine that is there already, with nothing of the run's own around them.
//!
//! The machine is a stand-in's, whose commands run in the net namespace of the engine's host: it isolates nothing, and that is
//! what has to be told. What a machine of the real one reaches is for the rig to show.

use std::collections::BTreeMap;
use std::process::Output;

use claude_bottle::backend::docker::cleanup;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::place::{LABELS, Place, beside_a_stand_in};
use crate::trials::trials;

/// How each probe came out, and how the program ended.
fn verdicts(place: &Place, arguments: &[&str]) -> (BTreeMap<String, String>, Output) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut program = place.on_host(&["probe", "--backend", "smolmachines", "--engine", "system"]);
    program.args(["--quiet", "--json"]).arg(&report).args(arguments);
    let output = program.output().unwrap();
    let text = std::fs::read_to_string(&report).unwrap_or_else(|_| panic!("{output:?}"));
    let report: Value = serde_json::from_str(&text).unwrap();
    let probes = report["runs"][0]["probes"].as_array().unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = |probe: &Value| (word(&probe["name"]), word(&probe["verdict"]["verdict"]));
    (probes.iter().map(verdict).collect(), output)
}

/// Nothing of a bottle, on the engine or with smolvm.
async fn nothing_is_left(place: &Place) {
    assert_eq!(cleanup::find(&place.engine().await, None).await.unwrap().len(), 0);
    assert_eq!(place.ground().await.tools().smolvm.machines().await.unwrap(), []);
}

#[tokio::main]
async fn a_machine_that_isolates_nothing_is_told_to() {
    beside_a_stand_in(LABELS, async |place| {
        let (verdicts, output) = verdicts(place, &[]);
        for (probe, verdict) in [
            ("smoke-echo", "reached"),
            ("bundle-reach", "reached"),
            ("egress-port-bypass", "contained"),
            ("loopback-reach", "leaked"),
            ("host-gateway", "leaked"),
            ("control-plane-api", "leaked"),
            ("fast-open-and-mptcp", "leaked"),
        ] {
            assert_eq!(verdicts[probe], verdict, "{probe}: {output:?}");
        }
        assert_eq!(output.status.code(), Some(1));
        // What nobody has a witness for is not dialled.
        for probe in ["internet-tcp", "metadata", "resolver-exfiltration", "proxy-reach"] {
            assert_eq!(verdicts[probe], "skipped", "{probe}: {output:?}");
        }
        nothing_is_left(place).await;
    })
    .await;
}

#[tokio::main]
async fn a_hole_in_its_bundle_is_noticed_and_others_are_refused() {
    beside_a_stand_in(LABELS, async |place| {
        let breach = ["--breach", "egress-on-all-interfaces", "egress-port-bypass"];
        let (verdicts, output) = verdicts(place, &breach);
        assert_eq!(verdicts["egress-port-bypass"], "leaked", "{output:?}");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        nothing_is_left(place).await;

        let open =
            ["probe", "--backend", "smolmachines", "--engine", "system", "--breach", "plain-net"];
        let refused = place.on_host(&open).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("would lead out of this machine"), "{said}");
    })
    .await;
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_machine_that_isolates_nothing_is_told_to,
        a_hole_in_its_bundle_is_noticed_and_others_are_refused,
    ]
}
