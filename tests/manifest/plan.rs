//! What a manifest comes to on a host.

use std::fs;
use std::path::{Path, PathBuf};

use claude_bottle::manifest::{FILE, Manifest};
use claude_bottle::plan::{Facts, PlanError, There, Value, resolve};
use serde_json::json;

use crate::build::Build;

/// A host on which everything is there that the tests name.
fn host() -> Facts {
    let folder = PathBuf::from("/project");
    let there = |path: &str| (folder.join(path), There::Folder(folder.join(path)));
    Facts {
        home: Some("/home/me".into()),
        variables: ["KEY".to_owned()].into(),
        paths: [
            ("/project/.".into(), There::Folder("/project".into())),
            there("skills/review"),
            ("/".into(), There::Folder("/".into())),
            ("/run/link".into(), There::Folder("/var/run".into())),
            ("/proc/1".into(), There::Folder("/proc/1".into())),
            ("/home/me/.gitconfig".into(), There::File("/home/me/.gitconfig".into())),
            ("/project/bus".into(), There::Special),
            ("/project/gone".into(), There::Nothing("No such file or directory".into())),
        ]
        .into(),
        prompts: [("/project/p.md".into(), Ok("Review.\n".to_owned()))].into(),
        folder,
    }
}

#[track_caller]
fn told(build: &Build) -> Vec<String> {
    let errors = resolve(&build.read(), "smith", &host()).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn all_of_it_is_resolved() {
    let manifest = Build::new()
        .bottle("env", json!({ "LANG": "C", "TOKEN": { "from": "KEY" } }))
        .bottle("egress", json!(["api.anthropic.com", "b.test"]))
        .bottle("ssh", json!(["b.test"]))
        .bottle(
            "mounts",
            json!([
                { "source": "~/.gitconfig", "target": "/home/agent/.gitconfig" },
                { "source": ".", "target": "/work", "writable": true },
            ]),
        )
        .agent("prompt", json!({ "file": "p.md" }))
        .agent("skills", json!(["skills/review"]))
        .read();
    let plan = resolve(&manifest, "smith", &host()).unwrap();
    let json = serde_json::to_string_pretty(&plan).unwrap();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(json) });
}

#[test]
fn other_programs_have_nothing_built_in() {
    let plan = |command: &str| {
        let manifest = Build::new().agent("command", json!([command])).read();
        resolve(&manifest, "smith", &host()).unwrap()
    };
    assert!(plan("sh").egress.is_empty() && plan("claude2").egress.is_empty());
    assert_eq!(plan("/usr/bin/claude").egress.iter().count(), 3);
    assert_eq!(plan("sh").folder, "/home/agent");
}

#[test]
fn everything_in_the_way_is_told_at_once() {
    let build = Build::new()
        .bottle("env", json!({ "A": { "from": "NOT_A" }, "B": { "from": "NOT_B" } }))
        .bottle(
            "mounts",
            json!([{ "source": "gone", "target": "/a" }, { "source": "bus", "target": "/b" }]),
        )
        .agent("skills", json!(["gone"]))
        .agent("prompt", json!({ "file": "q.md" }));
    let expected = [
        "not set here: `NOT_A`, `NOT_B`",
        "the mount `gone` cannot be used: No such file or directory",
        "the mount `bus` cannot be used: it is neither a folder nor a file",
        "the skill `gone` cannot be used: No such file or directory",
        "the prompt `q.md` cannot be used: nobody has looked at it",
    ];
    assert_eq!(told(&build), expected);
    let errors = resolve(&Build::new().read(), "smth", &host()).unwrap_err();
    assert!(matches!(errors.as_slice(), [PlanError::NoAgent(_)]), "{errors:?}");
    assert_eq!(errors[0].to_string(), "unknown agent `smth`, did you mean `smith`?");
}

#[test]
fn no_mount_opens_the_host() {
    for source in ["/", "/run/link", "/proc/1"] {
        let build = Build::new().bottle("mounts", json!([{ "source": source, "target": "/a" }]));
        let told = told(&build);
        assert!(told[0].starts_with(&format!("the mount `{source}` cannot be used: ")), "{told:?}");
    }
}

#[test]
fn the_host_is_looked_at_and_no_value_of_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap();
    fs::create_dir(folder.path().join("skill")).unwrap();
    fs::write(folder.path().join("p.md"), "Hello.\n").unwrap();
    let text = Build::new()
        .bottle("env", json!({ "WHERE": { "from": "PATH" } }))
        .bottle("mounts", json!([{ "source": ".", "target": "/work" }]))
        .agent("skills", json!(["skill"]))
        .agent("prompt", json!({ "file": "p.md" }))
        .text();
    let manifest = Manifest::parse(&folder.path().join(FILE), &text).unwrap();
    let plan = resolve(&manifest, "smith", &Facts::gather(&manifest)).unwrap();
    assert_eq!(plan.mounts[0].source, real);
    assert_eq!(plan.copies[0].from, real.join("skill"));
    assert_eq!(plan.command, ["claude", "Hello."]);
    assert_eq!(plan.env["WHERE"], Value::FromHost("PATH".into()));
    let path = std::env::var("PATH").unwrap();
    assert!(!format!("{plan:?}").contains(&path));
    assert!(Path::new(&plan.folder).is_absolute());
}
