//! Definitions of canaries, and what a program of the host comes to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use claude_bottle::canary::{self, Canary};
use tempfile::TempDir;

use crate::trials::trials;

mod engine;
mod image;
mod mistakes;
mod registry;
mod schema;
mod tool;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> ExitCode {
    trials::run([
        trials![the_shipped_definitions_are_right_and_are_those_built_in],
        engine::trials(),
        image::trials(),
        mistakes::trials(),
        schema::trials(),
        tool::trials(),
    ])
}

/// A definition with nothing wrong, of the kind `tool`.
const TOOL: &str = r#"title = "T"
why = "W"
[check]
kind = "tool"
program = "docker"
version = { line = "Docker version {version}, build" }
[[check.help]]
args = ["run", "--help"]
has = ["--network", "--cap-drop"]
"#;

/// A definition with nothing wrong, of the kind `toolbox`.
const TOOLBOX: &str = r#"title = "T"
why = "W"
[check]
kind = "toolbox"
backend = "namespace"
"#;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn one(text: &str) -> Canary {
    let folder = folder(&[("x.toml", text)]);
    let canaries =
        canary::discover(folder.path()).unwrap_or_else(|errors| panic!("{errors}\nin:\n{text}"));
    let [one] = canaries.try_into().unwrap();
    one
}

/// What is told about this text; the folder is called `canaries`.
fn told(text: &str) -> String {
    let folder = folder(&[("x.toml", text)]);
    let errors = canary::discover(folder.path()).unwrap_err();
    errors.to_string().replace(folder.path().to_str().unwrap(), "canaries")
}

fn shipped_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("canaries")
}

fn the_shipped_definitions_are_right_and_are_those_built_in() {
    let found = canary::discover(&shipped_folder()).unwrap();
    assert!(found.iter().any(|canary| canary.name == "toolbox-in-namespace"));
    let found: Vec<_> = found.into_iter().map(|canary| Canary { file: None, ..canary }).collect();
    assert_eq!(canary::embedded().unwrap(), found);
}
