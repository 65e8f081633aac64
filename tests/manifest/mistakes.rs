//! What is wrong in a manifest, and how it is told.

use proptest::prelude::*;
use serde_json::json;

use crate::build::{Build, parse, told};

#[test]
fn mistakes_are_told() {
    let right = Build::new();
    let text = right.text();
    let cases = [
        ("nothing", String::new()),
        ("no JSON", "{ bottles }".into()),
        ("a comment", format!("// mine\n{text}")),
        ("a comma too many", text.replace("\"bottle\": \"box\"", "\"bottle\": \"box\",")),
        ("an end that is missing", text.trim_end().trim_end_matches('}').to_owned()),
        ("no table", "[]".into()),
        ("neither bottles nor agents", "{}".into()),
        ("a misspelt key", text.replace("bottles", "botles")),
        ("a misspelt key below", right.clone().bottle("egres", json!(["a.test"])).text()),
        ("a key of nobody's", right.clone().agent("colour", json!("red")).text()),
        ("null", right.clone().bottle("image", json!(null)).text()),
        ("a key that is there twice", text.replace("\"box\": {}", "\"box\": {}, \"box\": {}")),
        ("a number for a text", right.clone().bottle("image", json!(1)).text()),
        ("a text for a table", right.clone().bottle("limits", json!("2 GiB")).text()),
        ("a missing bottle", right.clone().agent("bottle", json!("bx")).text()),
        ("a missing bottle far from all", right.clone().agent("bottle", json!("cellar")).text()),
        ("a name in capitals", text.replace("\"smith\"", "\"Smith\"")),
        ("a variable that cannot be", right.clone().bottle("env", json!({ "A-B": "" })).text()),
        (
            "a variable from nowhere",
            right.clone().bottle("env", json!({ "A": { "form": "A" } })).text(),
        ),
        (
            "hosts that are none",
            right
                .clone()
                .bottle("egress", json!(["https://a.test/x", "127.1", "a.test:99", "*"]))
                .text(),
        ),
        (
            "a port that is none",
            right.clone().bottle("ssh", json!([{ "host": "a.test", "ports": [0] }])).text(),
        ),
        (
            "a host without ports",
            right.clone().bottle("egress", json!([{ "host": "a.test" }])).text(),
        ),
        (
            "a daemon that does not exist",
            right.clone().bottle("daemons", json!(["pipelok"])).text(),
        ),
        (
            "two daemons on one port",
            right.clone().bottle("daemons", json!(["pipelock", "gateway"])).text(),
        ),
        (
            "a daemon of an image that is not named",
            right.clone().bottle("daemons", json!(["supervise", "pipelock", "gitleaks"])).text(),
        ),
        (
            "two daemons on one port, of an image",
            right
                .clone()
                .bottle("bundle-image", json!("localhost/bundle:1"))
                .bottle("daemons", json!(["pipelock", "gateway"]))
                .text(),
        ),
        ("a runtime that does not exist", right.clone().bottle("runtime", json!("runcs")).text()),
        (
            "a target that is no path",
            right
                .clone()
                .bottle("mounts", json!([{ "source": ".", "target": "/a/../etc" }]))
                .text(),
        ),
        ("an empty command", right.clone().agent("command", json!([])).text()),
        ("a NUL", right.clone().agent("command", json!(["a", "b\u{0}"])).text()),
        ("a list with nothing in it", right.clone().agent("skills", json!([])).text()),
        (
            "several at a time",
            right
                .bottle("runtime", json!(7))
                .bottle("egress", json!(["a b"]))
                .agent("bottle", json!("b"))
                .text(),
        ),
    ];
    let told: Vec<_> =
        cases.iter().map(|(title, text)| format!("# {title}\n\n{}\n", told(text))).collect();
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(told.join("\n\n"));
    });
}

#[test]
fn a_prompt_that_no_argument_can_hold_is_refused() {
    let prompt = |length| Build::new().agent("prompt", json!("x".repeat(length)));
    prompt(128 * 1024 - 1).read();
    let told = told(&prompt(128 * 1024).text());
    assert!(told.contains("the prompt has 131072 bytes"), "{told}");
}

#[test]
fn what_is_nested_for_ever_is_refused() {
    let told = told(&"[".repeat(1_000_000));
    assert!(told.contains("nesting depth"), "{told}");
}

proptest! {
    /// Whatever is there instead, reading ends, and a mistake has a place in the text.
    #[test]
    fn anything_can_be_read(at in 0_usize..200, instead in "[\\PC\n]{0,6}") {
        let text = Build::new().bottle("egress", json!(["a.test"])).text();
        let at = at.min(text.len());
        let text = format!("{}{instead}{}", &text[..at], &text[at..]);
        if let Err(error) = parse(&text) {
            let error = error.to_string();
            prop_assert!(error.starts_with("claude-bottle.json:"), "{error}");
        }
    }
}
