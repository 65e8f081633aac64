//! Containers: of the machine's own engine, and of podman.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use libtest_mimic::Trial;

use crate::suite::{breaks, told, told_with, works};
use crate::trials::{skip, trials};

/// An image with nothing in it but a static busybox; removed with this.
struct Image {
    /// The program that runs it, with its options.
    engine: String,
    /// What every container of it is run with.
    limits: &'static str,
    name: String,
}

impl Image {
    fn of_docker() -> Self {
        if !works("docker version --format '{{.Server.Os}}'") {
            skip("no Docker Engine answers");
        }
        Self::import("docker".into(), "")
    }

    fn import(engine: String, limits: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::create_dir(root.path().join("tmp")).unwrap();
        if std::fs::copy("/usr/bin/busybox", bin.join("busybox")).is_err() {
            skip("there is no /usr/bin/busybox");
        }
        for applet in ["sh", "head", "chmod", "rm", "sleep", "uname"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let image = Self { engine, limits, name: unique("test") };
        let (engine, name) = (&image.engine, &image.name);
        let root = root.path().display();
        assert!(
            works(&format!("tar -C {root} -c . | {engine} import - {name}")),
            "{engine} import"
        );
        // A busybox that is linked dynamically runs in no empty image.
        if !works(&image.run("--network none", "busybox true")) {
            skip(format!("{engine} runs no container here, or busybox is not static"));
        }
        image
    }

    /// The command that runs `command` in a container of it.
    fn run(&self, options: &str, command: &str) -> String {
        let Self { engine, limits, name } = self;
        format!("{engine} run --rm -i {limits} {options} {name} {command}")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        works(&format!("{} rmi {}", self.engine, self.name));
    }
}

/// A container or a network of the test's, removed with this.
struct Thing {
    kind: &'static str,
    name: String,
}

impl Drop for Thing {
    fn drop(&mut self) {
        match self.kind {
            "container" => docker(&["rm", "--force", &self.name]),
            kind => docker(&[kind, "rm", &self.name]),
        };
    }
}

fn unique(what: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("claude-bottle-external-{what}-{}-{count}", std::process::id())
}

/// Whether the engine did it.
fn docker(arguments: &[&str]) -> bool {
    Command::new("docker").args(arguments).output().is_ok_and(|output| output.status.success())
}

fn containers_are_told_apart_by_their_networks() {
    let image = Image::of_docker();
    let text = told(&image.run("--network none", ""), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
    // The way to the host is the bridge; loopback and abstract sockets are the container's own.
    let text = told(&image.run("", ""), 1);
    assert!(breaks(&text, "host-gateway") && !breaks(&text, "loopback-reach"), "{text}");
    let text = told(&image.run("--network host", ""), 1);
    assert!(breaks(&text, "loopback-reach") && breaks(&text, "abstract-socket"), "{text}");
    // No shell is needed where the toolbox is handed in.
    told(
        &format!("docker run --rm -i --network none -v {{dir}}:/in:ro {} /in/toolbox", image.name),
        0,
    );
}

/// `--internal` takes the way to the internet, and leaves the one to the host's address on that very bridge, at which
/// whatever listens on all addresses is reached.
fn an_internal_network_is_judged() {
    let image = Image::of_docker();
    let network = Thing { kind: "network", name: unique("internal") };
    assert!(docker(&["network", "create", "--internal", &network.name]));
    let gateway = Command::new("docker")
        .args([
            "network",
            "inspect",
            "--format",
            "{{(index .IPAM.Config 0).Gateway}}",
            &network.name,
        ])
        .output()
        .unwrap();
    let gateway = String::from_utf8(gateway.stdout).unwrap().trim().to_owned();
    let in_it = image.run(&format!("--network {}", network.name), "");
    let output = crate::suite::probe(&in_it, &["-v"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Could not be judged"), "{text}");
    for probe in ["loopback-reach", "abstract-socket", "unix-path-socket"] {
        assert!(!breaks(&text, probe), "{text}");
    }
    assert!(text.contains(&format!("host-gateway:random as {gateway}")), "{text}");
    assert_eq!(output.status.code(), Some(i32::from(breaks(&text, "host-gateway"))), "{text}");
    // What is allowed there is reached there, where the engine leaves that way open.
    if breaks(&text, "host-gateway") {
        let text = told_with(&in_it, &["--allow", &format!("{gateway}:38128")], 1);
        assert!(!breaks(&text, "allowed-reach"), "{text}");
    }
}

fn a_running_container_is_entered() {
    let image = Image::of_docker();
    let container = Thing { kind: "container", name: unique("exec") };
    let started = docker(&[
        "run",
        "-d",
        "--name",
        &container.name,
        "--network",
        "none",
        &image.name,
        "sleep",
        "300",
    ]);
    assert!(started);
    let text = told(&format!("docker exec -i {}", container.name), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
}

fn a_container_that_is_paused_cannot_be_judged() {
    let image = Image::of_docker();
    let container = Thing { kind: "container", name: unique("paused") };
    let name = &container.name;
    let run = image.run(&format!("--name {name} --network none -v {{dir}}:/in:ro"), "/in/toolbox");
    // The greeting is held back until the container has been paused.
    let folder = tempfile::tempdir().unwrap();
    let hello = folder.path().join("hello");
    let hello = hello.display();
    let script = format!(
        "{run} | {{ dd bs=64k count=1 of={hello} 2>/dev/null; docker pause {name} >/dev/null; cat {hello}; cat; }}"
    );
    let text = told(&format!("sh -c '{script}'"), 3);
    assert!(text.contains("Could not be judged") && !text.contains("As it should be"), "{text}");
}

fn a_strange_image_cannot_be_judged() {
    let image = Image::of_docker();
    // The toolbox with the number of another machine in its header.
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("toolbox");
    let script = "cp {toolbox} \"$0\" && printf \"\\363\\0\" | dd of=\"$0\" bs=1 seek=18 conv=notrunc 2>/dev/null";
    told(&format!("sh -c '{script}' {}", foreign.display()), 3);
    std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mounted = format!("--network none -v {}:/in/toolbox:ro", foreign.display());
    for (options, command, why) in [
        ("--network none --read-only", "", "no folder in there can be written to"),
        // The engine mounts it noexec.
        ("--network none --read-only --tmpfs /tmp", "", "no folder in there can be written to"),
        ("--network none", "no-such-program", "no-such-program"),
        ("--network none --entrypoint /bin/sleep", "", "invalid number"),
    ] {
        let text = told(&image.run(options, command), 3);
        assert!(text.contains(why), "{options} {command}: {text}");
    }
    // `{dir}` is named, so that nothing is sent.
    let text = told(&image.run(&format!("{mounted} -v {{dir}}:/unused:ro"), "/in/toolbox"), 3);
    assert!(text.contains("exec format error"), "{text}");
}

/// With images, containers and locks in a folder of the test's: locks in shared memory would outlast it.
fn podman_is_judged() {
    if !nix::unistd::geteuid().is_root() {
        skip("podman leaves a process behind where an ordinary user runs it");
    }
    if !works("podman --version") {
        skip("podman is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let settings = folder.path().join("containers.conf");
    std::fs::write(&settings, "[engine]\nlock_type = \"file\"\n").unwrap();
    let engine = format!(
        "env CONTAINERS_CONF={path}/containers.conf podman --root {path}/root --runroot {path}/run --storage-driver vfs --cgroup-manager cgroupfs"
    );
    // What podman asks for by itself is more than a root without all capabilities may have.
    let image = Image::import(engine, "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024");
    let text = told(&image.run("--network none", ""), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
    let text = told(&image.run("--network host", ""), 1);
    assert!(breaks(&text, "loopback-reach") && breaks(&text, "abstract-socket"), "{text}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        podman_is_judged,
        containers_are_told_apart_by_their_networks,
        an_internal_network_is_judged,
        a_running_container_is_entered,
        a_container_that_is_paused_cannot_be_judged,
        a_strange_image_cannot_be_judged,
    ]
}
