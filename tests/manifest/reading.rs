//! Manifests that are right.

use std::fs;
use std::path::Path;

use claude_bottle::bundle::pipelock::Allowlist;
use claude_bottle::manifest::{
    FILE, Limits, Manifest, ManifestError, Prompt, Runtime, Variable, find,
};
use serde_json::json;

use crate::build::{Build, parse};

#[test]
fn what_is_left_out_has_its_usual_value() {
    let manifest = Build::new().read();
    let (bottle, agent) = (&manifest.bottles["box"], &manifest.agents["smith"]);
    assert_eq!((bottle.image.as_deref(), bottle.runtime), (None, Runtime::Runc));
    assert_eq!(bottle.bundle_image, None);
    assert_eq!(
        (bottle.daemons.as_slice(), bottle.limits),
        (&["gateway".to_owned()][..], Limits::default())
    );
    assert!(bottle.env.is_empty() && bottle.wanted.is_empty() && bottle.mounts.is_empty());
    assert_eq!((agent.command.as_slice(), &agent.prompt), (&["claude".to_owned()][..], &None));
    assert!(agent.skills.is_empty());
}

#[test]
fn the_example_in_the_documentation_is_read_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.md");
    let documentation = fs::read_to_string(path).unwrap();
    let example = documentation.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let manifest = parse(example).unwrap_or_else(|error| panic!("{error}"));
    let (bottle, agent) = (&manifest.bottles["web"], &manifest.agents["reviewer"]);
    assert_eq!(bottle.runtime, Runtime::Runsc);
    assert_eq!(bottle.env["LANG"], Variable::Literal("C.UTF-8".into()));
    assert_eq!(bottle.env["ANTHROPIC_API_KEY"], Variable::FromHost("ANTHROPIC_API_KEY".into()));
    assert_eq!(bottle.bundle_image.as_deref(), Some("claude-bottle/sidecars"));
    assert_eq!(bottle.daemons, ["pipelock", "gitleaks"]);
    assert_eq!(bottle.limits.processes, Some(512));
    assert!(bottle.mounts[0].writable);
    assert_eq!(agent.command, ["claude", "--verbose"]);
    assert_eq!(agent.prompt, Some(Prompt::File("prompts/review.md".into())));
    let list = Allowlist::of(bottle.wanted.clone());
    let told = list.iter().map(|entry| {
        let sources: Vec<_> = entry.sources.keys().map(ToString::to_string).collect();
        format!("{} {:?} {}", entry.host, entry.ports, sources.join("; "))
    });
    let expected = [
        "github.com {22} ssh, line 15",
        "registry.npmjs.org {80, 443} egress, line 11",
        "*.example.com {80, 443} egress, line 12",
        "10.20.0.0/16 {5432} egress, line 13",
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn texts_are_taken_as_they_are() {
    let manifest = Build::new()
        .bottle("env", json!({ "EMPTY": "", "_x": " \u{e9}\n" }))
        .agent("command", json!(["sh", "-c", "", "-c"]))
        .agent("prompt", json!("one\ntwo"))
        .read();
    assert_eq!(manifest.bottles["box"].env["EMPTY"], Variable::Literal(String::new()));
    assert_eq!(manifest.bottles["box"].env["_x"], Variable::Literal(" \u{e9}\n".into()));
    assert_eq!(manifest.agents["smith"].command, ["sh", "-c", "", "-c"]);
    assert_eq!(manifest.agents["smith"].prompt, Some(Prompt::Text("one\ntwo".into())));
}

#[test]
fn it_is_found_from_the_folders_below_it() {
    let top = tempfile::tempdir().unwrap();
    let below = top.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    // Only where no folder above the temporary one has a manifest.
    if let Err(ManifestError::NotFound { from }) = find(&below) {
        assert_eq!(from, below);
    }
    fs::write(top.path().join(FILE), Build::new().text()).unwrap();
    assert_eq!(find(&below).unwrap(), top.path().join(FILE));
    assert_eq!(Manifest::read(&find(&below).unwrap()).unwrap().agents.len(), 1);
    // The nearest one counts, and so does one that leads nowhere: it is not passed over in silence.
    let near = top.path().join("a").join(FILE);
    std::os::unix::fs::symlink("nowhere", &near).unwrap();
    assert_eq!(find(&below).unwrap(), near);
    assert!(matches!(Manifest::read(&near), Err(ManifestError::Unreadable { .. })));
}

#[test]
fn files_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    fs::write(&file, b"{\xff}").unwrap();
    let error = Manifest::read(&file).unwrap_err();
    assert!(matches!(error, ManifestError::Unreadable { .. }), "{error}");
    fs::write(&file, vec![b' '; 1024 * 1024 + 1]).unwrap();
    let error = Manifest::read(&file).unwrap_err();
    assert!(matches!(error, ManifestError::TooLarge { .. }), "{error}");
    let error = Manifest::read(folder.path()).unwrap_err();
    assert!(matches!(error, ManifestError::Unreadable { .. }), "{error}");
}
