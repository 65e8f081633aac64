//! The JUnit report is valid, and no text in it can become anything but text.

use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use claude_bottle::lab::Wiring;
use claude_bottle::probe::definition::{Expect, Severity};
use claude_bottle::probe::outcome::{AttemptOutcome, Cost, ProbeOutcome, RunOutcome, Standing};
use claude_bottle::probe::verdict::{Evidence, Said, Verdict};
use claude_bottle::report::junit::to_xml;
use claude_bottle::report::text::Untrusted;
use claude_bottle_protocol::prober::How;
use proptest::prelude::*;
use roxmltree::{Document, Node};

use crate::trials::{skip, trials};

#[path = "trials/mod.rs"]
mod trials;

fn main() -> ExitCode {
    trials::run([trials![
        one_case_per_probe_whatever_the_texts_say,
        a_report_keeps_to_the_rules,
        a_report_is_valid_by_the_schema,
        a_report_that_breaks_the_rules_is_noticed,
        the_schema_agrees_with_the_rules,
    ]])
}

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/junit.xsd");

/// What `tests/fixtures/junit.xsd` says, and that the counts are right, which a schema cannot say.
fn violations(document: &Document<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let root = document.root_element();
    expect_element(&mut found, root, "testsuites", &[], &["testsuite"]);
    for suite in elements(root) {
        let attributes = [
            "id",
            "name",
            "package",
            "tests",
            "failures",
            "errors",
            "hostname",
            "timestamp",
            "time",
        ];
        expect_element(&mut found, suite, "testsuite", &attributes, &["testcase", "system-out"]);
        let cases: Vec<_> = elements(suite).filter(|node| node.has_tag_name("testcase")).collect();
        let with = |name: &str| {
            cases.iter().filter(|case| elements(**case).any(|node| node.has_tag_name(name))).count()
        };
        let counts =
            [("tests", cases.len()), ("failures", with("failure")), ("errors", with("error"))];
        for (attribute, count) in counts {
            if suite.attribute(attribute) != Some(&count.to_string()) {
                found.push(format!("{attribute} is not {count}"));
            }
        }
        expect_seconds(&mut found, suite);
        for case in cases {
            let children = ["failure", "error", "skipped", "system-out"];
            expect_element(&mut found, case, "testcase", &["name", "classname", "time"], &children);
            expect_seconds(&mut found, case);
            for child in elements(case) {
                let attributes: &[_] =
                    if child.has_tag_name("system-out") { &[] } else { &["type", "message"] };
                let name = child.tag_name().name();
                expect_element(&mut found, child, name, attributes, &[]);
            }
        }
    }
    found
}

fn elements<'a, 'i: 'a>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// That an element has exactly these attributes, and no other children but these, each kind but `testcase` and
/// `testsuite` at most once, in this order.
fn expect_element(
    found: &mut Vec<String>,
    node: Node<'_, '_>,
    name: &str,
    attributes: &[&str],
    children: &[&str],
) {
    if !node.has_tag_name(name) {
        found.push(format!("{} instead of {name}", node.tag_name().name()));
    }
    let mut has: Vec<_> = node.attributes().map(|attribute| attribute.name()).collect();
    let mut wanted = attributes.to_vec();
    has.sort_unstable();
    wanted.sort_unstable();
    if has != wanted {
        found.push(format!("{name} has the attributes {has:?}"));
    }
    let mut from = 0;
    for child in elements(node) {
        let child = child.tag_name().name();
        match children.iter().skip(from).position(|known| *known == child) {
            None => found.push(format!("{child} is out of place in {name}")),
            Some(_) if child.starts_with("test") => {}
            Some(at) => from += at + 1,
        }
    }
}

fn expect_seconds(found: &mut Vec<String>, node: Node<'_, '_>) {
    let time = node.attribute("time").unwrap_or_default();
    let (whole, rest) = time.split_once('.').unwrap_or((time, "0"));
    if [whole, rest]
        .iter()
        .any(|part| part.is_empty() || part.contains(|c: char| !c.is_ascii_digit()))
    {
        found.push(format!("time is {time:?}"));
    }
}

/// What `xmllint` says against the schema. Ends the test as ignored where there is none.
fn xmllint(xml: &[u8]) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, xml).unwrap();
    let output =
        Command::new("xmllint").args(["--noout", "--schema", SCHEMA]).arg(file.path()).output();
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip("xmllint is not on PATH")
        }
        Err(error) => panic!("cannot run xmllint: {error}"),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn texts() -> impl Strategy<Value = String> {
    let forged =
        "]]></system-out></testcase><testcase name=\"forged\" classname=\"x\" time=\"0\"/>";
    let piece = prop_oneof![
        10 => any::<String>(),
        10 => "[ -~]{0,12}",
        10 => Just("]]>".to_owned()),
        10 => Just(forged.to_owned()),
        10 => Just("\" time=\"0\"/><testcase name=\"forged".to_owned()),
        10 => Just("<!-- --><![CDATA[ &lt; &amp; &#0; <?xml?>".to_owned()),
        10 => Just("\0\x1b[31m\r\n\u{fffe}\u{ffff}\u{85}\u{202e}".to_owned()),
        10 => Just("[[ATTACHMENT|/etc/passwd]]".to_owned()),
        // Longer than what a report takes of one text.
        1 => Just("x]]>".repeat(20_000)),
    ];
    prop_oneof![
        9 => prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat()),
        1 => Just(String::new()),
    ]
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<u32>().prop_map(|us| Duration::from_micros(us.into())),
        Just(Duration::ZERO),
        Just(Duration::from_nanos(499_999)),
        Just(Duration::MAX),
    ]
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    let hows = prop::sample::select(How::ALL.as_slice());
    let evidence = (texts(), texts(), durations(), any::<Option<std::net::SocketAddr>>())
        .prop_map(|(witness, saw, at, peer)| Evidence { witness, peer, saw, at });
    prop_oneof![
        Just(Verdict::Reached),
        hows.prop_map(|how| Verdict::Contained { how }),
        texts().prop_map(|why| Verdict::Unreached { why }),
        texts().prop_map(|why| Verdict::Inconclusive { why }),
        texts().prop_map(|why| Verdict::Skipped { why }),
        evidence.prop_map(|evidence| Verdict::Leaked { evidence }),
    ]
}

fn attempts() -> impl Strategy<Value = AttemptOutcome> {
    let said = (
        prop::sample::select(How::ALL.as_slice()),
        any::<Option<i32>>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        durations(),
    )
        .prop_map(|(how, errno, detail, took)| Said {
            how,
            errno,
            detail: detail.map(Untrusted::new),
            took,
        });
    (texts(), verdicts(), prop::option::of(texts()), prop::option::of(said)).prop_map(
        |(what, verdict, control, said)| AttemptOutcome {
            what,
            site: None,
            expect: Expect::Contained,
            verdict,
            control,
            said,
        },
    )
}

fn probes() -> impl Strategy<Value = ProbeOutcome> {
    (
        texts(),
        texts(),
        texts(),
        verdicts(),
        prop::option::of(texts()),
        prop::collection::vec(attempts(), 0..3),
        durations(),
    )
        .prop_map(|(name, title, why, verdict, known_leak, attempts, took)| ProbeOutcome {
            name,
            title,
            why,
            severity: Severity::High,
            verdict,
            known_leak,
            attempts,
            took,
        })
}

fn runs() -> impl Strategy<Value = RunOutcome> {
    (
        texts(),
        prop::option::of(texts()),
        prop::collection::vec(probes(), 0..4),
        prop::collection::vec(texts(), 0..2),
    )
        .prop_map(|(backend, breach, probes, notes)| RunOutcome {
            backend,
            breach,
            probes,
            cost: Cost::default(),
            notes,
            wiring: Wiring::default(),
            made_of: std::collections::BTreeMap::new(),
            expected: None,
        })
}

fn element_of(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Pass | Standing::KnownLeak => None,
        Standing::Fail => Some("failure"),
        Standing::Error => Some("error"),
        Standing::Skip => Some("skipped"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    fn one_case_per_probe_whatever_the_texts_say(runs in prop::collection::vec(runs(), 0..3)) {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let xml = String::from_utf8(to_xml(&runs, started)).unwrap();
        let document = Document::parse(&xml).unwrap();
        prop_assert_eq!(violations(&document), Vec::<String>::new());

        let probes: Vec<_> = runs.iter().flat_map(|run| &run.probes).collect();
        let mut cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
        if probes.is_empty() {
            let case = cases.pop().unwrap();
            prop_assert!(elements(case).any(|node| node.has_tag_name("error")));
        }
        prop_assert_eq!(cases.len(), probes.len());
        for (case, probe) in cases.into_iter().zip(probes) {
            prop_assert_eq!(case.attribute("name").unwrap(), Untrusted::new(&probe.name).one_line(1024));
            let results: Vec<_> = elements(case)
                .map(|node| node.tag_name().name())
                .filter(|name| *name != "system-out")
                .collect();
            prop_assert_eq!(results, Vec::from_iter(element_of(probe.standing())));
            for text in elements(case).filter_map(|node| node.text()) {
                let harmless = Untrusted::new(text);
                prop_assert_eq!(harmless.as_str(), text);
            }
        }
    }
}

/// One report that holds every kind of case and hostile text: starting `xmllint` for each would take long.
fn of_every_kind() -> Vec<u8> {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut runs: Vec<RunOutcome> =
        (0..20).map(|_| runs().new_tree(&mut runner).unwrap().current()).collect();
    let took = Duration::from_micros(1_234_567);
    let all = [
        Verdict::Reached,
        Verdict::Contained { how: How::Refused },
        Verdict::Unreached { why: "no answer".to_owned() },
        Verdict::Inconclusive { why: "no control".to_owned() },
        Verdict::Skipped { why: "no docker".to_owned() },
    ];
    runs[0].probes.extend(all.map(|verdict| ProbeOutcome {
        name: verdict.word().to_lowercase(),
        title: String::new(),
        why: String::new(),
        severity: Severity::Low,
        verdict,
        known_leak: None,
        attempts: vec![],
        took,
    }));
    to_xml(&runs, SystemTime::now())
}

fn a_report_keeps_to_the_rules() {
    let xml = String::from_utf8(of_every_kind()).unwrap();
    assert_eq!(violations(&Document::parse(&xml).unwrap()), Vec::<String>::new());
}

fn a_report_is_valid_by_the_schema() {
    assert_eq!(xmllint(&of_every_kind()), Ok(()));
}

/// Reports, and what is wrong in each, if anything is.
fn wrong_ones() -> Vec<(String, Option<&'static str>)> {
    let suite = |attributes: &str, cases: &str| {
        format!(
            "<testsuites><testsuite id=\"0\" name=\"a\" package=\"a\" hostname=\"h\" \
             timestamp=\"2026-01-02T03:04:05Z\" {attributes}>{cases}</testsuite></testsuites>"
        )
    };
    let counts = "tests=\"1\" failures=\"0\" errors=\"0\" time=\"0.5\"";
    let case = "<testcase name=\"a\" classname=\"b\" time=\"0.5\"/>";
    vec![
        (suite(counts, case), None),
        (suite(counts, &case.repeat(2)), Some("tests is not 2")),
        (
            suite(counts, "<testcase name=\"a\" time=\"0\"/>"),
            Some("testcase has the attributes [\"name\", \"time\"]"),
        ),
        (suite(counts, &case.replace("0.5", "5e-05")), Some("time is \"5e-05\"")),
        (suite(counts, &case.replace("0.5", ".")), Some("time is \".\"")),
        (
            suite(counts, &format!("<system-out/>{case}")),
            Some("testcase is out of place in testsuite"),
        ),
        (
            suite(counts, &format!("{case}<properties/>")),
            Some("properties is out of place in testsuite"),
        ),
        (
            suite(counts, &case.replace("/>", "><error type=\"\" message=\"\"/></testcase>")),
            Some("errors is not 1"),
        ),
        (
            suite(counts, &case.replace("/>", "><system-out><b/></system-out></testcase>")),
            Some("b is out of place in system-out"),
        ),
        ("<testsuite/>".to_owned(), Some("testsuite instead of testsuites")),
    ]
}

/// The checker sees what it is there for.
fn a_report_that_breaks_the_rules_is_noticed() {
    for (xml, violation) in wrong_ones() {
        let found = violations(&Document::parse(&xml).unwrap());
        assert_eq!(found.first().map(String::as_str), violation, "{xml}");
    }
    assert!(Document::parse("<a>\u{1b}</a>").is_err(), "the parser knows what XML forbids");
}

fn the_schema_agrees_with_the_rules() {
    for (xml, violation) in wrong_ones() {
        // The schema cannot count.
        let is_valid = violation.is_none_or(|violation| violation.contains(" is not "));
        let result = xmllint(xml.as_bytes());
        assert_eq!(result.is_ok(), is_valid, "{xml}: {result:?}");
    }
}
