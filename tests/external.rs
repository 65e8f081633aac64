//! `claude-bottle probe --in`, against real sandboxes, and against none at all.

#![cfg(target_os = "linux")]

use std::process::{Command, Output};

fn probe(command: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_claude-bottle"));
    program.args(["probe", "--quiet", "--color", "never", "--in", command]).output().unwrap()
}

fn told(command: &str, code: i32) -> String {
    let output = probe(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command}\n{text}\n{error}");
    text
}

#[test]
fn no_sandbox_at_all_is_red() {
    for command in ["sh -c", "sh -c 'echo banner; exec {toolbox}'"] {
        let text = told(command, 1);
        for probe in
            ["abstract-socket", "fast-open-and-mptcp", "loopback-reach", "unix-path-socket"]
        {
            assert!(text.contains(&format!("{probe} does not hold")), "{text}");
        }
    }
}

#[test]
fn what_is_no_sandbox_cannot_be_judged() {
    for (command, why) in [
        ("echo hello", "hello"),
        ("sh -c 'echo sorry >&2; exit 7' {toolbox}", "sorry"),
        ("/no/such/program", "cannot run /no/such/program"),
        ("cat {toolbox}", "prints too much"),
    ] {
        let text = told(command, 3);
        assert!(text.contains(why), "{command}\n{text}");
    }
}

#[test]
fn a_sandbox_that_dies_half_way_is_never_closed() {
    let closed = "bwrap --ro-bind / / --tmpfs /tmp --tmpfs /run --tmpfs /var --proc /proc --dev /dev \
                  --ro-bind {dir} /tmp/in --unshare-net";
    if probe(&format!("{closed} /tmp/in/toolbox")).status.code() != Some(0) {
        eprintln!("skipped: bubblewrap is not installed, or may not make namespaces here");
        return;
    }
    // The session ends behind its greeting (the one read); or nothing more comes of it, though it does not end.
    // In the latter case a command in there does not come back, which is an expectation that is not met.
    for (after, code) in [("", 3), ("; sleep 60", 1)] {
        let text =
            told(&format!("{closed} sh -c '/tmp/in/toolbox | dd bs=64k count=1{after}'"), code);
        assert!(text.contains("Could not be judged"), "{text}");
        assert!(!text.contains("As it should be"), "{text}");
    }
}

#[test]
fn bubblewrap_without_a_network_is_closed() {
    let root = "bwrap --ro-bind / / --tmpfs /tmp --tmpfs /run --tmpfs /var --proc /proc --dev /dev";
    let works = Command::new("sh").args(["-c", &format!("{root} --unshare-net true")]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: bubblewrap is not installed, or may not make namespaces here");
        return;
    }
    // The toolbox goes in over standard input, into the sandbox's own /tmp.
    let text = told(&format!("{root} --unshare-net"), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
    // Its folder alone is shown: nothing that the run itself needs looks like a leak.
    let bound = format!("{root} --unshare-all --ro-bind {{dir}} /tmp/in /tmp/in/toolbox");
    told(&bound, 0);
    let text = told(root, 1);
    assert!(text.contains("loopback-reach does not hold"), "{text}");
    assert!(!text.contains("unix-path-socket does not hold"), "{text}");
}

#[test]
fn a_net_namespace_alone_leaves_sockets_in_the_file_system() {
    let works = Command::new("unshare").args(["-rn", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no user and net namespaces may be made here");
        return;
    }
    for command in ["unshare -rn {toolbox}", "unshare -rn sh -c"] {
        let text = told(command, 1);
        assert!(text.contains("unix-path-socket does not hold"), "{text}");
        assert!(!text.contains("loopback-reach does not hold"), "{text}");
        assert!(!text.contains("host-gateway does not hold"), "{text}");
        assert!(!text.contains("abstract-socket does not hold"), "{text}");
    }
}

/// An image with nothing in it but a static busybox; removed with this.
struct Image(String);

impl Image {
    /// None, and why, where there is no engine or no static busybox.
    fn import() -> Result<Self, &'static str> {
        let answers =
            Command::new("docker").args(["version", "--format", "{{.Server.Os}}"]).output();
        if !answers.is_ok_and(|output| output.status.success()) {
            return Err("no Docker Engine answers");
        }
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::create_dir(root.path().join("tmp")).unwrap();
        if std::fs::copy("/usr/bin/busybox", bin.join("busybox")).is_err() {
            return Err("there is no /usr/bin/busybox");
        }
        for applet in ["sh", "head", "chmod", "rm", "sleep"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let name = format!("claude-bottle-external-test:{}", std::process::id());
        let script = "tar -C \"$0\" -c . | docker import - \"$1\" >/dev/null";
        let made = Command::new("sh").args(["-c", script]).arg(root.path()).arg(&name).status();
        assert!(made.unwrap().success());
        let image = Self(name);
        // A busybox that is linked dynamically runs in no empty image.
        let runs = image.docker("--network none", "busybox true");
        let runs = Command::new("sh").args(["-c", &runs]).output().unwrap();
        if runs.status.success() { Ok(image) } else { Err("busybox is not static") }
    }

    fn docker(&self, options: &str, command: &str) -> String {
        format!("docker run --rm -i {options} {} {command}", self.0)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", &self.0]).output();
    }
}

#[test]
fn containers_are_told_apart_by_their_networks() {
    let image = match Image::import() {
        Ok(image) => image,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let text = told(&image.docker("--network none", ""), 0);
    assert!(!text.contains("Could not be judged"), "{text}");
    // The way to the host is the bridge; loopback and abstract sockets are the container's own.
    let text = told(&image.docker("", ""), 1);
    assert!(text.contains("host-gateway does not hold"), "{text}");
    assert!(!text.contains("loopback-reach does not hold"), "{text}");
    let text = told(&image.docker("--network host", ""), 1);
    assert!(text.contains("loopback-reach does not hold"), "{text}");
    assert!(text.contains("abstract-socket does not hold"), "{text}");
    // No shell is needed where the toolbox is handed in.
    told(
        &format!("docker run --rm -i --network none -v {{dir}}:/in:ro {} /in/toolbox", image.0),
        0,
    );

    for (options, command, why) in [
        ("--network none --read-only", "", "no folder in there can be written to"),
        ("--network none", "no-such-program", "no-such-program"),
    ] {
        let text = told(&image.docker(options, command), 3);
        assert!(text.contains(why), "{text}");
    }
}
