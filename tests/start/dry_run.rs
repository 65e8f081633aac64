//! What would be done, and that it is not.

use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::build::Build;
use crate::project::{Project, text};
use crate::trials::trials;

fn build() -> Build {
    Build::new()
        .bottle("env", json!({ "LANG": "C", "TOKEN": { "from": "SECRET" } }))
        .bottle("egress", json!(["b.test", { "host": "10.1.0.0/16", "ports": [5432] }]))
        .bottle("ssh", json!(["b.test"]))
        .agent("prompt", json!("Review\nthis."))
}

fn project() -> Project {
    Project::new(&build())
}

/// All of what is told of a bottle in containers: it is the same on every host.
fn it_tells_how_containers_are_made() {
    let build = build()
        .bottle("image", json!("localhost/smith:1"))
        .bottle("runtime", json!("runsc"))
        .bottle("limits", json!({ "memory-mib": 512, "cpus": 2, "processes": 64 }));
    let containers = Project::new(&build);
    let mut dry = containers.start(&["--backend", "docker", "--dry-run"]);
    let told = text(&dry.env("SECRET", "hunter2").output().unwrap());
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(told) });
    // Without an image there is nothing to run.
    let project = project();
    let mut dry = project.start(&["--backend", "docker", "--dry-run"]);
    let output = dry.env("SECRET", "").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("names none for the bottle `box`"), "{said}");
}

/// The same of a machine: what leaks there is told, and what has no network leaks nothing.
fn it_tells_how_machines_are_made() {
    let build = build()
        .bottle("image", json!("localhost/smith:1"))
        .bottle("limits", json!({ "memory-mib": 512, "cpus": 2, "processes": 64 }));
    let machines = Project::new(&build);
    let dry = |more: &[&str], loopback: &str| {
        let all = [&["--backend", "smolmachines", "--dry-run"], more].concat();
        let mut dry = machines.start(&all);
        dry.env("SECRET", "hunter2").env("CLAUDE_BOTTLE_SMOLVM_LOOPBACK", loopback);
        text(&dry.output().unwrap())
    };
    let told = dry(&[], "");
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(told) });
    let offline = dry(&["--offline"], "1");
    assert!(offline.contains("network   the machine has none\n"), "{offline}");
    assert!(!offline.contains("leaks") && !offline.contains("LOOPBACK"), "{offline}");
    // What somebody has said is told where it opens something.
    let told = dry(&["--format", "json"], "1");
    let json: Value = serde_json::from_str(&told).unwrap();
    let leaks = json["outline"]["leaks"].as_array().unwrap();
    assert!(leaks[1].as_str().unwrap().contains("every port of this host's loopback"), "{told}");
}

/// Every need that is not met is named, before anything is done.
fn what_a_machine_needs_is_named() {
    let machines = Project::new(&Build::new().bottle("image", json!("localhost/smith:1")));
    let nowhere = machines.path("nowhere");
    let told = |variables: &[(&str, &str)]| {
        let mut start = machines.start(&["--backend", "smolmachines"]);
        start.env("PATH", &nowhere).env("DOCKER_HOST", format!("unix://{}", nowhere.display()));
        for unset in ["CLAUDE_BOTTLE_SMOLVM_ON_LINUX", "GITEA_ACTIONS"] {
            start.env_remove(unset);
        }
        let output = start.envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = told(&[("GITEA_ACTIONS", "true")]);
    for need in ["darwin (this is linux)", "smolvm on PATH", "docker: ", "not Gitea"] {
        assert!(said.contains(&format!("needs {need}")) || said.contains(need), "{need}: {said}");
    }
    let said = told(&[("CLAUDE_BOTTLE_SMOLVM_ON_LINUX", "1")]);
    assert!(said.contains("needs smolvm on PATH") && !said.contains("Gitea"), "{said}");
}

/// What daemons of an image of their own are given, in short and whole.
fn it_tells_what_runs_in_a_bundle_of_an_image() {
    let build = build()
        .bottle("image", json!("localhost/smith:1"))
        .bottle("bundle-image", json!("localhost/bundle:1"))
        .bottle("daemons", json!(["gitleaks", "pipelock", "egress"]));
    let project = Project::new(&build);
    let dry = |more: &[&str]| {
        let all = [&["--backend", "docker", "--dry-run"], more].concat();
        text(&project.start(&all).env("SECRET", "hunter2").output().unwrap())
    };
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(dry(&[])) });
    let told: Value = serde_json::from_str(&dry(&["--format", "json"])).unwrap();
    assert_eq!(told["plan"]["bundle-image"], "localhost/bundle:1");
    assert_eq!(told["outline"]["runs"], json!(["gitleaks", "pipelock", "egress"]));
    let made_of = told["outline"]["bundle-runtime"].as_str().unwrap();
    assert!(made_of.contains("localhost/bundle:1"), "{made_of}");
    let file = &told["outline"]["files"][0];
    assert_eq!(
        (&file["daemon"], &file["path"]),
        (&json!("pipelock"), &json!("/run/bottle/pipelock.yaml"))
    );
    let yaml = file["text"].as_str().unwrap();
    assert!(yaml.contains("mode: strict\n") && yaml.contains("- b.test\n"), "{yaml}");
    // Offline nothing is let out: pipelock is not run, and is given nothing.
    let offline: Value = serde_json::from_str(&dry(&["--offline", "--format", "json"])).unwrap();
    assert_eq!(offline["outline"]["runs"], json!(["gitleaks"]));
    assert_eq!(offline["outline"]["files"], json!([]));
}

fn it_tells_everything_but_secrets() {
    let project = project();
    let dry = |more: &[&str]| {
        let all = [&["--dry-run"], more].concat();
        text(&project.start(&all).env("SECRET", "hunter2").output().unwrap())
    };
    let told = dry(&[]);
    // What is shown of the host is different on each.
    let until = told.find("step 7").expect("steps");
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(&told[..until]) });
    let json: Value = serde_json::from_str(&dry(&["--format", "json"])).unwrap();
    assert_eq!(json["plan"]["env"]["TOKEN"], json!({ "from-host": "SECRET" }));
    assert_eq!(json["plan"]["egress"][0]["host"], "api.anthropic.com");
    assert_eq!(json["outline"]["bundle"], "10.200.0.1");
    for told in [told, json.to_string(), dry(&["--offline"])] {
        assert!(!told.contains("hunter2"), "{told}");
    }
}

fn offline_nothing_may_be_reached() {
    let project = project();
    let mut start = project.start(&["--dry-run", "--offline"]);
    let told = text(&start.env("SECRET", "").output().unwrap());
    assert!(told.contains("nothing may be reached") && !told.contains("b.test"), "{told}");
}

/// A stand-in for the engine counts who comes: the doctor does, and a dry run does not.
fn no_engine_is_spoken_to() {
    let project = project();
    let socket = project.path("engine");
    let engine = UnixListener::bind(&socket).unwrap();
    engine.set_nonblocking(true).unwrap();
    let connections = || {
        let mut count = 0;
        loop {
            match engine.accept() {
                Ok(_) => count += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let host = format!("unix://{}", socket.display());
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
    doctor.arg("doctor").env("DOCKER_HOST", &host).output().unwrap();
    assert!(connections() > 0, "the doctor asks");
    let docker = Project::new(&build().bottle("image", json!("localhost/smith:1")));
    let with = ["--dry-run", "--format"];
    for format in ["text", "json"] {
        let mut dry = docker.start(&[with[0], with[1], format, "--backend", "docker"]);
        text(&dry.env("SECRET", "").env("DOCKER_HOST", &host).output().unwrap());
        let mut dry = project.start(&[with[0], with[1], format]);
        text(&dry.env("SECRET", "").env("DOCKER_HOST", &host).output().unwrap());
    }
    assert_eq!(connections(), 0);
}

fn what_is_wrong_is_told_before_anything_is_done() {
    let project = project();
    let told = |arguments: &[&str]| {
        let output = project.start(arguments).env_remove("SECRET").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(told(&[]), "error: not set here: `SECRET`\n");
    assert!(told(&["--backend", "docker"]).contains("SECRET"));
    std::fs::write(project.path("claude-bottle.json"), "{\n  \"botles\": {}, \"agents\": {}\n}")
        .unwrap();
    let said = told(&["--dry-run"]);
    assert!(said.contains("claude-bottle.json:2:3: unknown key `botles`"), "{said}");

    let output = project.start(&["--manifest", "/nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        it_tells_everything_but_secrets,
        it_tells_how_containers_are_made,
        it_tells_how_machines_are_made,
        what_a_machine_needs_is_named,
        it_tells_what_runs_in_a_bundle_of_an_image,
        offline_nothing_may_be_reached,
        no_engine_is_spoken_to,
        what_is_wrong_is_told_before_anything_is_done,
    ]
}
