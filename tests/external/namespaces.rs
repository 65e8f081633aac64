//! Net namespaces made by hand.

use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;

use crate::suite::{breaks, needs_namespaces, probe, told, works};
use crate::trials::{skip, trials};

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

/// An engine removes a bridge while a run lasts, say. The machine is a net namespace here, the sandbox none at all.
fn an_address_that_goes_away_meanwhile_is_not_judged() {
    needs_namespaces();
    if !works("unshare -rn ip address show") {
        skip("the program ip is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let sandbox = folder.path().join("sandbox");
    let run = |lost: &str| {
        std::fs::write(&sandbox, format!("{lost}\nexec \"$@\"\n")).unwrap();
        let script = "ip link set lo up && ip address add 10.99.0.1/32 dev lo && exec \"$@\"";
        let mut machine = Command::new("unshare");
        machine.args(["-rn", "sh", "-c", script, "-", env!("CARGO_BIN_EXE_claude-bottle")]);
        machine.args(["probe", "--color", "never", "--in", &format!("sh {}", sandbox.display())]);
        let output = machine.arg("host-gateway").output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    };
    let (text, code) = run("");
    assert!(breaks(&text, "host-gateway") && code == Some(1), "{text}");
    let (text, _) = run("ip address delete 10.99.0.1/32 dev lo");
    let lost = "this machine has lost the address 10.99.0.1 meanwhile: host-gateway";
    assert!(text.contains(lost) && !text.contains("Could not be judged"), "{text}");
}

/// The folder that firejail has of its own; gone with this, if it was not there before.
struct FirejailFolder {
    is_new: bool,
}

impl FirejailFolder {
    const PATH: &str = "/run/firejail";

    fn make() -> Self {
        Self { is_new: std::fs::create_dir(Self::PATH).is_ok() }
    }
}

impl Drop for FirejailFolder {
    fn drop(&mut self) {
        if self.is_new {
            std::fs::remove_dir(Self::PATH).unwrap();
        }
    }
}

/// firejail hides `/tmp`. Which sockets of others stay in sight in `/run` is the machine's business: they are told of, not tried.
///
/// It makes mounts that outlast it: here they are in a mount namespace that does not.
fn firejail_is_judged() {
    const JAIL: &str = "unshare --mount --propagation private sh -c 'mount -t tmpfs -o mode=0755 none /run/firejail && \
                        exec firejail --quiet --noprofile --private-tmp \"$@\"' -";
    if !nix::unistd::geteuid().is_root() {
        skip("firejail leaves mounts behind where an ordinary user runs it");
    }
    let _folder = FirejailFolder::make();
    if !works(&format!("{JAIL} --net=none true")) {
        skip("firejail is not installed, or does not work here");
    }
    let output = probe(&format!("{JAIL} --net=none sh -c"), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    assert!(text.contains("As it should be") && !text.contains("does not hold"), "{text}");
    if output.status.code() == Some(3) {
        let unjudged = "the sandbox adds “in sight, and not this run's to try: /";
        assert!(text.contains(unjudged), "{text}");
    }
    let open = told(&format!("{JAIL} sh -c"), 1);
    for probe in ["loopback-reach", "host-gateway", "abstract-socket", "resolver-exfiltration"] {
        assert!(breaks(&open, probe), "{open}");
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        an_address_that_goes_away_meanwhile_is_not_judged,
        firejail_is_judged,
        a_net_namespace_alone_leaves_sockets_in_the_file_system,
        a_net_namespace_made_by_hand_is_entered,
    ]
}
