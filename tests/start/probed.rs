//! The very bottle that a manifest describes, probed as a sandbox of another make is.

use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

use libtest_mimic::Trial;
use serde_json::json;

use crate::build::Build;
use crate::project::{On, Project, on_each_backend};

/// Its folder is in the home, which is searched for sockets.
fn mounted() -> Build {
    let mounts = json!([{ "source": ".", "target": "/home/agent/work", "writable": true }]);
    Build::new().bottle("mounts", mounts).bottle("egress", json!(["allowed.test"]))
}

/// `claude-bottle probe --in 'claude-bottle start smith --' …`
fn probed(project: &Project, more: &[&str]) -> Output {
    let start = project.start(&["--"]);
    let words = [start.get_program()].into_iter().chain(start.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let mut probe = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
    probe.current_dir(project.path(".")).args(["probe", "--quiet", "--in", &words.join(" ")]);
    probe.envs(start.get_envs().filter_map(|(name, value)| Some((name, value?))));
    probe.args(more).output().unwrap()
}

fn a_bottle_at_work_can_be_probed(on: On) {
    let output = probed(&Project::on(on, &mounted()), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("The host's loopback is closed to the sandbox"), "{said}");
}

/// With the whole world around it, which only a bottle can have that is made there.
fn so_it_can_in_a_lab() {
    let output = probed(&Project::on(On::namespace(), &mounted()), &["--lab"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("The internet is closed to the sandbox over TCP"), "{said}");
}

/// What the manifest opened is not the walls' to close: whoever looks is told.
fn a_socket_in_a_mounted_folder_is_seen() {
    let project = Project::on(On::namespace(), &mounted());
    let _socket = UnixListener::bind(project.path("socket")).unwrap();
    let output = probed(&project, &["unix-path-socket"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("/home/agent/work/socket"), "{said}");
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = crate::trials::trials![so_it_can_in_a_lab, a_socket_in_a_mounted_folder_is_seen];
    all.extend(on_each_backend![a_bottle_at_work_can_be_probed]);
    all
}
