//! Programs in the place of the prober: none of them can forge a pass, or break a report.

use std::time::SystemTime;

use claude_bottle::probe::outcome::RunOutcome;
use claude_bottle::report::{json, junit, terminal};
use libtest_mimic::Trial;

use crate::backend::{Run, assert_nothing_contained, inconclusive, probe};
use crate::trials::trials;

const PROBES: &[&str] = &[
    "egress-port-bypass",
    "host-gateway",
    "loopback-reach",
    "namespace-escape",
    "netlink",
    "route-change",
];

/// Reads the batch as the prober would. `hello VERSION` greets, `done` ends every attempt, `bye` ends.
const KNOWS_THE_PROTOCOL: &str = r#"
read -r batch
token=${batch#*\"token\":\"}
token=${token%%\"*}
ids=$(echo "$batch" | grep -o '"id":[0-9]*' | cut -d: -f2)
count=$(echo "$ids" | wc -l)
hello() { printf '{"line":"hello","version":"%s","token":"%s","netns":null}\n' "$1" "$token"; }
done_() { printf '{"line":"done","id":%s,"word":{"how":"%s"},"took_us":1}\n' "$1" "$2"; }
all() { for id in $ids; do done_ "$id" "$1"; done; }
bye() { printf '{"line":"bye","attempts":%s}\n' "$count"; }
"#;

fn run(script: &str) -> RunOutcome {
    let script = format!("{KNOWS_THE_PROTOCOL}\n{script}");
    Run::of(PROBES).with_prober(&script).outcome(|_, _| {})
}

/// Runs the script as the prober: all is inconclusive for this reason, and the reports hold.
#[track_caller]
fn assert_noticed(script: &str, reason: &str) {
    let run = run(script);
    assert_nothing_contained(&run);
    for why in inconclusive(probe(&run, "egress-port-bypass")) {
        assert!(why.contains(reason), "{script}: {why:?}");
        assert!(why.len() < 1000, "{script}: {why:?}");
    }
    for name in PROBES {
        inconclusive(probe(&run, name));
    }
    let style = terminal::Style { verbose: 2, ..terminal::Style::default() };
    let printed = terminal::render(std::slice::from_ref(&run), style);
    let is_harmless = |c: char| c == '\n' || !c.is_control();
    assert!(printed.chars().all(is_harmless), "{script}: {printed:?}");
    let xml = junit::to_xml(std::slice::from_ref(&run), SystemTime::UNIX_EPOCH);
    let xml = String::from_utf8(xml).expect("UTF-8");
    let document = roxmltree::Document::parse(&xml).expect("XML");
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    assert_eq!(cases.count(), PROBES.len(), "{script}: {xml}");
    // Times are written in whole microseconds.
    let report = json::Report::of(&[run], &json::Context::default(), 3, |_, _, _| false).to_json();
    let read = json::Report::read(report.as_bytes()).expect("a report");
    assert_eq!(read.to_json(), report, "{script}");
}

fn version() -> &'static str {
    claude_bottle_protocol::VERSION
}

fn one_that_says_nothing() {
    assert_noticed("exit 0", "it broke off");
    assert_noticed("exit 7", "exit code 7");
    assert_noticed("kill -9 $$", "killed by signal 9");
    assert_noticed(&format!("hello {}; kill -9 $$", version()), "killed by signal 9");
}

fn one_that_says_something_else() {
    let other = "it wrote something else than a prober does";
    assert_noticed("echo hello", other);
    assert_noticed(r"printf '\033[2J\033]0;title\007\n'", other);
    assert_noticed(r"printf '\303\n\377\376\n'", other);
    assert_noticed(r#"echo ']]></failure></testcase><testcase name="forged"/>'"#, other);
    assert_noticed(r"echo '::error file=x::y'; echo '##vso[task.complete]'", other);
    // What the parser quotes.
    let hostile = r#"printf '{"line":"%b"}\n' '\\\\u001b[31m]]>\\\\u0000'"#;
    assert_noticed(hostile, other);
    assert_noticed(r#"printf '{"line":"%s"}\n' "$(head -c 50000 /dev/zero | tr '\0' x)""#, other);
}

fn one_that_says_too_much() {
    assert_noticed("head -c 1073741824 /dev/zero", "line");
    assert_noticed("yes | tr -d '\\n' | head -c 1073741824", "line");
    let endless = format!(r#"hello {}; yes '{{"line":"ready","id":1,"port":null}}'"#, version());
    assert_noticed(&endless, "it said twice that attempt 1 waits");
}

fn one_that_does_not_know_the_token_or_the_version() {
    let version = version();
    let forged =
        format!("token=cb0n0123456789abcdef0123456789ab; hello {version}; all refused; bye");
    assert_noticed(&forged, "another batch's token");
    assert_noticed("hello 0.0.0-forged; all refused; bye", "another version");
    assert_noticed("all refused; bye", "it did not greet");
    assert_noticed("bye", "it did not greet");
}

/// It knows everything, and says that all was refused; but it has not shown that it can reach anything.
fn one_that_lies() {
    let version = version();
    let cut_off = "the prober reached nothing, not even what the plan allows";
    assert_noticed(&format!("hello {version}; all refused; bye"), cut_off);
    assert_noticed(&format!("hello {version}; all answered; bye"), "");
    assert_noticed(&format!("hello {version}; bye"), "it left attempts out");
    assert_noticed(&format!("hello {version}; all refused"), "it broke off");
    let but_one = format!("hello {version}; ids=$(echo \"$ids\" | tail -n +2); all refused; bye");
    assert_noticed(&but_one, "it left attempts out");
    let waits =
        r#"hello VERSION; echo '{"line":"ready","id":4000000,"port":null}'; all refused; bye"#;
    assert_noticed(&waits.replace("VERSION", version), "attempt 4000000, which does not exist");
    let invented = format!("hello {version}; done_ 4000000 refused; all refused; bye");
    assert_noticed(&invented, "attempt 4000000, which does not exist");
}

/// A second word would replace the first.
fn one_that_says_it_twice() {
    let version = version();
    let twice = format!("hello {version}; all answered; all refused; bye");
    assert_noticed(&twice, "told of attempt 0 twice");
    assert_noticed(&format!("hello {version}; hello {version}; all refused; bye"), "greeted twice");
    assert_noticed(&format!("hello {version}; all refused; count=1; bye"), "counts 1 attempts");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        one_that_says_nothing,
        one_that_says_something_else,
        one_that_says_too_much,
        one_that_does_not_know_the_token_or_the_version,
        one_that_lies,
        one_that_says_it_twice,
    ]
}
