//! `ci/leftovers.sh` sees what a run leaves behind, and only that.
//!
//! Other processes come and go beside these tests, so that each comparison is narrowed with `--only` to what the test
//! itself made.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::trials::{needs_user_namespaces, skip, trials};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ci/leftovers.sh");

/// The tests' own world: `tmp` for temporary files, with the snapshot in it, where it must not be taken for a
/// leftover; and `bin`, whose programs are found first.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        for each in ["tmp", "bin"] {
            fs::create_dir(folder.path().join(each)).expect("mkdir");
        }
        let scene = Self { folder };
        scene.program("docker", "exit 1");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// A shell script that is found instead of the real program.
    ///
    /// Another process writes it: what this one has open for writing, a fork of a test beside this one may hold open
    /// for a moment longer, and then the script cannot be executed (ETXTBSY).
    fn program(&self, name: &str, script: &str) {
        let written = Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#])
            .arg(self.path("bin").join(name))
            .arg(script)
            .status()
            .expect("run sh");
        assert!(written.success());
    }

    fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").expect("PATH");
        let mut command = Command::new(program);
        command
            .env("TMPDIR", self.path("tmp"))
            .env("PATH", format!("{}:{path}", self.text("bin")))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, verb: &str, options: &[&str]) -> Output {
        self.command(SCRIPT)
            .args([verb, &self.text("tmp/snapshot")])
            .args(options)
            .output()
            .expect("run the script")
    }

    fn snapshot(&self) {
        let output = self.run("snapshot", &[]);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }

    /// The lines of a comparison that finds something; none, of one that finds nothing.
    fn compare(&self, options: &[&str]) -> Vec<String> {
        lines(&self.run("compare", options))
    }
}

/// What a comparison has printed, and its exit code agrees with that.
fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let expected = i32::from(!lines.is_empty());
    assert_eq!(output.status.code(), Some(expected), "{output:?}");
    lines
}

/// The argument of a `sleep` that nothing else on this machine has, nor any other that begins with it.
fn odd_time() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("8639{count}.{:07}", std::process::id())
}

/// A process, ended and reaped at the latest when this goes.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("spawn"))
    }

    /// Waits until the process has said that it is up.
    fn start_and_wait(command: &mut Command) -> Self {
        let mut running = Self::start(command.stdout(Stdio::piped()));
        let mut said = String::new();
        BufReader::new(running.0.stdout.take().expect("piped")).read_line(&mut said).expect("read");
        assert_eq!(said, "up\n");
        running
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails where it has ended already, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the test as ignored where no namespaces can be made.
fn needs_unshare() {
    if which::which("unshare").is_err() {
        skip("needs unshare on PATH");
    }
    needs_user_namespaces();
}

fn a_process_is_reported_until_it_is_gone() {
    let scene = Scene::new();
    let before = odd_time();
    let after = odd_time();
    let only = ["--only", &before, "--only", &after];
    let _before = Running::start(Command::new("sleep").arg(&before));
    scene.snapshot();
    assert!(scene.compare(&only).is_empty());
    let sleeping = Running::start(Command::new("sleep").arg(&after));
    assert_eq!(
        scene.compare(&only),
        [format!("left behind: process {}: sleep {after}", sleeping.id())]
    );
    drop(sleeping);
    assert!(scene.compare(&only).is_empty());
}

fn a_zombie_has_ended() {
    let scene = Scene::new();
    scene.snapshot();
    let mut sleeping = Running::start(Command::new("sleep").arg(odd_time()));
    let only = format!("^process {}:", sleeping.id());
    assert_eq!(scene.compare(&["--only", &only]).len(), 1);
    sleeping.0.kill().expect("kill");
    // Waits for its end without reaping it.
    let stat = format!("/proc/{}/stat", sleeping.id());
    let ended = || std::fs::read_to_string(&stat).expect("a zombie at least").contains(") Z ");
    assert!((0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        ended()
    }));
    assert!(scene.compare(&["--only", &only]).is_empty());
}

fn a_process_that_ends_in_time_is_not_left_behind() {
    let scene = Scene::new();
    let mark = odd_time();
    scene.snapshot();
    let sleeping = Running::start(Command::new("sleep").arg(&mark));
    // The pause before the second look is what ends it.
    scene.program("sleep", &format!("echo $1 >> {}; kill {}", scene.text("pauses"), sleeping.id()));
    assert!(scene.compare(&["--within", "60", "--only", &mark]).is_empty());
    let pauses = fs::read_to_string(scene.path("pauses")).expect("it has paused");
    assert_eq!(pauses, "0.2\n");
}

fn without_within_there_is_one_look() {
    let scene = Scene::new();
    let mark = odd_time();
    scene.snapshot();
    let _sleeping = Running::start(Command::new("sleep").arg(&mark));
    scene.program("sleep", &format!("echo $1 >> {}", scene.text("pauses")));
    assert_eq!(scene.compare(&["--only", &mark]).len(), 1);
    assert!(!scene.path("pauses").exists());
}

fn the_script_reports_neither_itself_nor_whoever_called_it() {
    let scene = Scene::new();
    scene.snapshot();
    let mark = odd_time();
    // The shell, which waits for the script, has the mark in its command line; so has the script.
    let script = format!("{SCRIPT} compare {} --only {mark}; exit $?", scene.text("tmp/snapshot"));
    let output = scene.command("sh").args(["-c", &script]).output().expect("run the shell");
    assert!(lines(&output).is_empty(), "{output:?}");
}

fn ignored_lines_are_left_out() {
    let scene = Scene::new();
    scene.snapshot();
    for name in ["one", "two", "three"] {
        fs::write(scene.path("tmp").join(name), "").expect("write");
    }
    let tmp = scene.text("tmp");
    let ignoring = ["--only", &tmp, "--ignore", "/one$", "--ignore", "^file .*/three"];
    assert_eq!(scene.compare(&ignoring), [format!("left behind: file {tmp}/two")]);
}

fn of_a_new_folder_only_the_folder_is_reported() {
    let scene = Scene::new();
    let tmp = scene.path("tmp");
    fs::create_dir(tmp.join("old")).expect("mkdir");
    fs::write(tmp.join("old/file"), "").expect("write");
    scene.snapshot();
    fs::create_dir_all(tmp.join("new/below")).expect("mkdir");
    fs::write(tmp.join("new/below/file"), "").expect("write");
    fs::write(tmp.join("old/new"), "").expect("write");
    fs::write(tmp.join("old/file"), "changed, and not new").expect("write");
    fs::write(tmp.join("a\nline"), "").expect("write");
    let tmp = scene.text("tmp");
    let mut left = scene.compare(&["--only", &tmp]);
    left.sort();
    assert_eq!(
        left,
        ["a?line", "new", "old/new"].map(|name| format!("left behind: file {tmp}/{name}"))
    );
    for name in ["a\nline", "old/new"] {
        fs::remove_file(scene.path("tmp").join(name)).expect("remove");
    }
    fs::remove_dir_all(scene.path("tmp/new")).expect("remove");
    assert!(scene.compare(&["--only", &tmp]).is_empty());
}

fn a_net_namespace_is_reported() {
    needs_unshare();
    let scene = Scene::new();
    let mark = odd_time();
    scene.snapshot();
    let running = Running::start_and_wait(
        Command::new("unshare").args(["--user", "--map-root-user", "--net"]).args([
            "sh",
            "-c",
            &format!("echo up; exec sleep {mark}"),
        ]),
    );
    let inode = fs::read_link(format!("/proc/{}/ns/net", running.id())).expect("its namespace");
    let inode = inode.to_str().expect("UTF-8");
    let inode = inode.trim_matches(|c: char| !c.is_ascii_digit());
    let left = scene.compare(&["--only", &mark, "--ignore", "^process"]);
    assert_eq!(left.len(), 1, "{left:?}");
    let expected = format!("left behind: net namespace {inode}, of process {}: ", running.id());
    assert!(left[0].starts_with(&expected), "{left:?}");
    drop(running);
    assert!(scene.compare(&["--only", inode]).is_empty());
}

fn a_mount_is_reported() {
    needs_unshare();
    let scene = Scene::new();
    let folder = scene.text("mounted");
    fs::create_dir(&folder).expect("mkdir");
    let script = format!(
        "set -e
        {SCRIPT} snapshot {snapshot}
        mount -t tmpfs left {folder}
        {SCRIPT} compare {snapshot} --only {folder} || echo $?
        umount {folder}
        {SCRIPT} compare {snapshot} --only {folder}
        echo clean",
        snapshot = scene.text("tmp/snapshot"),
    );
    let output = scene
        .command("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .output()
        .expect("run unshare");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("left behind: mount {folder} (tmpfs, its folder /)\n1\nclean\n"),
        "{output:?}"
    );
}

/// Makes a docker that answers, with a volume of this name besides what it always has.
fn docker_with(scene: &Scene, volume: &str) {
    scene.program(
        "docker",
        &format!(
            r#"case "$1" in
                version) ;;
                container) printf '0123\tweb (nginx, Up 2 days)\n' ;;
                network) printf '4567\tbridge\n' ;;
                volume) printf '%s\t%s\n' '{volume}' '{volume}' ;;
                image) ;;
                *) exit 1 ;;
            esac"#
        ),
    );
}

fn things_of_docker_are_reported() {
    let scene = Scene::new();
    docker_with(&scene, "old");
    scene.snapshot();
    assert!(scene.compare(&["--only", "^docker"]).is_empty());
    docker_with(&scene, "new");
    assert_eq!(scene.compare(&["--only", "^docker"]), ["left behind: docker volume new"]);
}

fn a_docker_that_was_not_there_is_not_compared() {
    let scene = Scene::new();
    scene.snapshot();
    docker_with(&scene, "new");
    assert!(scene.compare(&["--only", "^docker"]).is_empty());
}

/// Why a call cannot tell.
fn trouble(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn what_cannot_be_told_is_not_green() {
    let scene = Scene::new();
    docker_with(&scene, "old");
    scene.snapshot();

    scene.program("docker", "exit 1");
    let why = trouble(&scene.run("compare", &[]));
    assert!(why.contains("docker answered when"), "{why}");

    scene.program("docker", "[ $1 = version ]");
    let why = trouble(&scene.run("compare", &[]));
    assert!(why.contains("docker container ls failed"), "{why}");
    let why = trouble(&scene.run("snapshot", &[]));
    assert!(why.contains("docker container ls failed"), "{why}");

    let why = trouble(&scene.run("compare", &[]));
    assert!(why.contains("is empty"), "{why}");
    fs::write(scene.path("tmp/snapshot"), "something else\n").expect("write");
    let why = trouble(&scene.run("compare", &[]));
    assert!(why.contains("is no snapshot"), "{why}");
    fs::remove_file(scene.path("tmp/snapshot")).expect("remove");
    let why = trouble(&scene.run("compare", &[]));
    assert!(why.contains("cannot read"), "{why}");

    for option in [
        ["--ignore", "("],
        ["--ignore", ""],
        ["--only", "x*"],
        ["--within", "soon"],
        ["--wihtin", "1"],
    ] {
        scene.program("docker", "exit 1");
        scene.snapshot();
        trouble(&scene.run("compare", &option));
    }
    trouble(&scene.run("forget", &[]));
    trouble(&scene.run("compare", &["--within"]));
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_process_is_reported_until_it_is_gone,
        a_zombie_has_ended,
        a_process_that_ends_in_time_is_not_left_behind,
        without_within_there_is_one_look,
        the_script_reports_neither_itself_nor_whoever_called_it,
        ignored_lines_are_left_out,
        of_a_new_folder_only_the_folder_is_reported,
        a_net_namespace_is_reported,
        a_mount_is_reported,
        things_of_docker_are_reported,
        a_docker_that_was_not_there_is_not_compared,
        what_cannot_be_told_is_not_green,
    ]
}
