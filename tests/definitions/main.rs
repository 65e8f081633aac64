//! Definitions of probes: the shipped ones, and what any other comes to.

use std::fs;
use std::path::{Path, PathBuf};

use claude_bottle::breach::Breach;
use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::definition::{
    AttemptDefinition, Expect, Method, Probe, RunsOn, Severity, Site,
};
use claude_bottle::probe::errors::DefinitionErrors;
use claude_bottle_protocol::prober::How;
use tempfile::TempDir;

mod anything;
mod catalogue;
mod mistakes;
mod schema;

/// The breaches that made-up definitions may name. A few, so that what is told of a wrong one stays the same when
/// breaches are added.
const BREACHES: &[&str] = &[
    "no-bundle-route",
    "egress-on-all-interfaces",
    "shared-network-namespace",
    "no-network-namespace",
    "noexec-root",
];

/// A definition with nothing wrong: the cases change a line of it, or add some.
const RIGHT: &str = r#"title = "T"
why = "W"
severity = "low"
proven-by = ["no-bundle-route"]
[[attempt]]
method = "tcp"
to = { site = "bundle", port = "gateway" }
expect = "reached"
"#;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn discover(files: &[(&str, &[u8])]) -> Result<Catalogue, DefinitionErrors> {
    Catalogue::discover(folder(files).path(), BREACHES)
}

/// The catalogue, or a panic that shows the mistakes as a person would see them.
fn right(found: Result<Catalogue, DefinitionErrors>) -> Catalogue {
    found.unwrap_or_else(|errors| panic!("{errors}"))
}

/// What is told about these files; the folder is called `probes`.
fn told(files: &[(&str, &[u8])]) -> String {
    let folder = folder(files);
    let errors = Catalogue::discover(folder.path(), BREACHES).unwrap_err();
    errors.to_string().replace(folder.path().to_str().unwrap(), "probes")
}

fn one(text: &str) -> Probe {
    right(discover(&[("x.toml", text.as_bytes())])).get("x").cloned().unwrap()
}

fn built_in() -> Catalogue {
    right(Catalogue::embedded(Breach::names().as_slice()))
}

fn shipped_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("probes")
}

fn shipped_texts() -> Vec<(String, String)> {
    let mut texts: Vec<_> = fs::read_dir(shipped_folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    texts.sort();
    texts
}

/// [`RIGHT`] with one line put in place of the line that begins with `key`.
fn with(key: &str, line: &str) -> String {
    let changed: Vec<&str> =
        RIGHT.lines().map(|old| if old.starts_with(key) { line } else { old }).collect();
    assert_ne!(changed.join("\n"), RIGHT.trim_end(), "no line begins with {key}");
    changed.join("\n") + "\n"
}

/// [`RIGHT`] without the line that begins with `key`.
fn without(key: &str) -> String {
    let others: Vec<&str> = RIGHT.lines().filter(|line| !line.starts_with(key)).collect();
    assert_eq!(others.len() + 1, RIGHT.lines().count(), "one line begins with {key}");
    others.join("\n") + "\n"
}

#[test]
fn the_shipped_definitions_are_right_and_are_those_built_in() {
    let breaches = Breach::names();
    let found = right(Catalogue::discover(&shipped_folder(), breaches.as_slice()));
    let names: Vec<&str> = found.probes().iter().map(|probe| probe.name.as_str()).collect();
    assert!(names.is_sorted());
    for name in ["bundle-reach", "egress-port-bypass", "loopback-reach", "smoke-echo"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }

    let built_in = built_in();
    let without_file = |probe: &Probe| Probe { file: None, ..probe.clone() };
    let found: Vec<Probe> = found.probes().iter().map(without_file).collect();
    assert_eq!(built_in.probes(), found);
}

#[test]
fn the_shipped_definitions_say_what_is_tried() {
    let catalogue = built_in();
    let tried = |name: &str| {
        let probe = catalogue.get(name).unwrap();
        let attempts = probe.attempts.iter().map(|attempt| {
            let how: Vec<&str> = attempt.how.iter().map(|how| how.as_str()).collect();
            format!("{attempt}: {} {}", attempt.expect, how.join("|")).trim_end().to_owned()
        });
        attempts.collect::<Vec<_>>()
    };
    assert_eq!(tried("smoke-echo"), ["exec: reached"]);
    assert_eq!(tried("bundle-reach"), ["tcp to bundle:gateway: reached"]);
    assert_eq!(tried("egress-port-bypass"), ["tcp to bundle:egress: contained refused"]);

    let loopback = tried("loopback-reach");
    let monitor = 2 * 2;
    assert_eq!(loopback.len(), 2 * 2 * 2 * 7 + monitor, "sites, methods, ports, spellings");
    assert_eq!(
        loopback[0],
        "tcp to host-loopback:discard as 127.0.0.1: contained refused|unreachable|prohibited"
    );
    assert_eq!(
        loopback[55],
        "udp to real-loopback:random as ::ffff:127.0.0.1: contained refused|unreachable|prohibited"
    );
}

#[test]
fn every_field_arrives() {
    let probe = one(r#"
        title = "T"
        why = """
        First.
        Second."""
        severity = "critical"
        tags = ["a", "b-2"]
        references = ["CVE-2020-8558", "RFC 1122"]
        proven-by = ["no-bundle-route", "noexec-root"]
        needs = ["vsock-loopback"]

        [[attempt]]
        method = "udp"
        to = { site = "host-loopback", port = "random", spelled = "::1" }
        expect = "contained"
        how = "timed-out"
        only-on = ["namespace", "docker"]

        [on.smolmachines]
        expect = "leaks"
        because = "B"
        reference = "https://example.org"

        [on.external]
        skip = true
        because = "C"
    "#);
    assert_eq!(probe.title, "T");
    assert_eq!(probe.why.lines().map(str::trim).collect::<Vec<_>>(), ["First.", "Second."]);
    assert_eq!(probe.severity, Severity::Critical);
    assert_eq!(probe.tags, ["a", "b-2"]);
    assert_eq!(probe.references, ["CVE-2020-8558", "RFC 1122"]);
    assert_eq!(probe.proven_by, ["no-bundle-route", "noexec-root"]);
    assert_eq!(probe.needs, ["vsock-loopback"]);

    let [AttemptDefinition { method, to: Some(to), request: None, expect, how, only_on }] =
        &*probe.attempts
    else {
        panic!("one attempt to a place, not {:?}", probe.attempts);
    };
    assert_eq!((*method, *expect), (Method::Udp, Expect::Contained));
    assert_eq!((to.site, to.port.as_str()), (Site::HostLoopback, "random"));
    assert_eq!(to.spelled.as_deref(), Some("::1"));
    assert_eq!(
        (how.as_slice(), only_on.join(" ")),
        ([How::TimedOut].as_slice(), "namespace docker".to_owned())
    );

    assert_eq!(probe.on.keys().collect::<Vec<_>>(), ["external", "smolmachines"]);
    let RunsOn::Skipped { because } = probe.runs_on("external") else { panic!("skipped there") };
    assert_eq!(because, "C");
    assert_eq!(probe.on["smolmachines"].expect, Some(Expect::Leaks));
    assert_eq!(probe.on["smolmachines"].reference.as_deref(), Some("https://example.org"));
    assert!(matches!(probe.runs_on("namespace"), RunsOn::Runs { known_leak: None, .. }));
}

#[test]
fn lists_multiply_out_by_method_then_port_then_spelling() {
    let probe = one(&with("to", r#"to = { site = "host-loopback", port = ["random", "discard"], spelled = ["::1", "127.0.0.1"] }"#)
        .replace(r#"method = "tcp""#, r#"method = ["udp", "tcp"]"#)
        .replace("reached", "contained"));
    let attempts: Vec<String> = probe.attempts.iter().map(ToString::to_string).collect();
    assert_eq!(
        attempts,
        [
            "udp to host-loopback:random as ::1",
            "udp to host-loopback:random as 127.0.0.1",
            "udp to host-loopback:discard as ::1",
            "udp to host-loopback:discard as 127.0.0.1",
            "tcp to host-loopback:random as ::1",
            "tcp to host-loopback:random as 127.0.0.1",
            "tcp to host-loopback:discard as ::1",
            "tcp to host-loopback:discard as 127.0.0.1",
        ]
    );
}

#[test]
fn what_editors_do_to_a_file_is_tolerated() {
    let read = |text: &str| Probe { file: None, ..one(text) };
    let right = read(RIGHT);
    assert_eq!(read(&format!("\u{feff}{RIGHT}")), right);
    assert_eq!(read(&RIGHT.replace('\n', "\r\n")), right);
    assert_eq!(read(RIGHT.trim_end()), right);
}

#[test]
fn the_same_attempt_may_be_made_on_different_backends() {
    let attempt = RIGHT.split_once("[[attempt]]").unwrap().1;
    let probe = one(&format!(
        "{RIGHT}only-on = \"docker\"\n[[attempt]]{attempt}only-on = [\"namespace\", \"external\"]\n"
    ));
    assert_eq!(probe.attempts.len(), 2);
    assert_eq!(probe.attempts[1].only_on, ["namespace", "external"]);
}

#[test]
fn known_leaks_with_references_are_right() {
    let attempt = with("expect", r#"expect = "leaks""#);
    let probe = one(&format!("references = [\"CVE-1\"]\n{attempt}"));
    let RunsOn::Runs { known_leak, .. } = probe.runs_on("docker") else { panic!("it runs") };
    assert_eq!(known_leak, Some("CVE-1"));
}
