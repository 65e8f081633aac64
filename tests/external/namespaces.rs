//! Net namespaces made by hand.

use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;

use crate::suite::{breaks, needs_namespaces, told};
use crate::trials::trials;

/// What a net namespace alone keeps in, and what it does not.
fn closes_the_network_alone(command: &str) {
    let text = told(command, 1);
    assert!(breaks(&text, "unix-path-socket"), "{text}");
    for probe in ["loopback-reach", "host-gateway", "abstract-socket", "resolver-exfiltration"] {
        assert!(!breaks(&text, probe), "{text}");
    }
    assert!(!text.contains("Could not be judged"), "{text}");
}

fn a_net_namespace_alone_leaves_sockets_in_the_file_system() {
    needs_namespaces();
    for command in ["unshare -rn {toolbox}", "unshare -rn sh -c"] {
        closes_the_network_alone(command);
    }
}

/// A process in namespaces of its own, ended with this.
struct Holder(Child);

impl Holder {
    fn start() -> Self {
        // It tells once it is in there, and lives no longer than its input.
        let mut child = Command::new("unshare")
            .args(["-rn", "sh", "-c", "echo in; read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line, "in\n");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_net_namespace_made_by_hand_is_entered() {
    needs_namespaces();
    let holder = Holder::start();
    let enter = format!("nsenter --preserve-credentials --user --net --target {}", holder.0.id());
    closes_the_network_alone(&format!("{enter} {{toolbox}}"));
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_net_namespace_alone_leaves_sockets_in_the_file_system,
        a_net_namespace_made_by_hand_is_entered,
    ]
}
