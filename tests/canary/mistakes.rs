//! What is wrong in a definition, and how it is told.

use claude_bottle::canary;
use libtest_mimic::Trial;

use crate::trials::trials;
use crate::{TOOL, TOOLBOX, folder, told};

const IMAGE: &str = r#"title = "T"
why = "W"
[check]
kind = "image"
image = "registry.test/a"
digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
within = "90s"
runs = { prints = ["x"] }
"#;

const ENGINE: &str = r#"title = "T"
why = "W"
[check]
kind = "engine"
api = "1.41"
[[check.answer]]
of = "info"
has = ["Runtimes.runc"]
"#;

fn mistakes_are_told() {
    let cases = [
        ("no `check`", TOOL.split("[check]").next().unwrap().to_owned()),
        ("no `kind`", TOOL.replace("kind = \"tool\"\n", "")),
        ("`kind` misspelt", TOOL.replace("kind", "knid")),
        ("a kind that does not exist", TOOL.replace("\"tool\"", "\"tol\"")),
        ("a kind that is no text", TOOL.replace("\"tool\"", "7")),
        ("a key of another kind", TOOLBOX.to_owned() + "program = \"docker\"\n"),
        ("an unknown key", TOOL.replace("program", "programme")),
        ("an unknown backend", TOOLBOX.replace("namespace", "namespaces")),
        ("an unknown requirement", format!("needs = [\"dokcer\"]\n{TOOLBOX}")),
        ("a relative program", TOOL.replace("\"docker\"", "\"bin/docker\"")),
        ("a line without the version", TOOL.replace("{version}", "version")),
        ("an empty list", TOOL.replace("[\"--network\", \"--cap-drop\"]", "[]")),
        ("an image with its tag", IMAGE.replace("test/a", "test/a:1.0")),
        ("a digest that is none", IMAGE.replace("sha256:0", "sha256:g")),
        ("a time without a unit", IMAGE.replace("90s", "90")),
        ("a version of an API", ENGINE.replace("1.41", "v1.41")),
        ("an unknown question", ENGINE.replace("info", "inof")),
        ("several at a time", TOOL.replace("title", "titel").replace("has", "flags")),
    ];
    let told: Vec<_> =
        cases.iter().map(|(title, text)| format!("# {title}\n\n{}\n", told(text))).collect();
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(told.join("\n\n"));
    });
}

fn a_folder_without_canaries_is_an_error() {
    let empty = folder(&[("README.md", "")]);
    let error = canary::discover(empty.path()).unwrap_err().to_string();
    let path = empty.path().display();
    assert_eq!(error, format!("no canary definition (*.toml) in {path}"));
    let missing = empty.path().join("missing");
    let error = canary::discover(&missing).unwrap_err().to_string();
    assert!(error.starts_with("the folder of canary definitions "), "{error}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![mistakes_are_told, a_folder_without_canaries_is_an_error,]
}
