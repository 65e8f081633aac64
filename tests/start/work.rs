//! A command at work.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::build::Build;
use crate::engine::Private;
use crate::project::{On, Project, on_each_backend, text};
use crate::trials::{needs_user_namespaces, trials};

fn mounted() -> Build {
    Build::new().bottle("mounts", json!([{ "source": ".", "target": "/work", "writable": true }]))
}

fn it_works_in_the_project_with_what_the_manifest_gives_it(on: On) {
    let project = Project::on(
        on,
        &mounted()
            .bottle("env", json!({ "WORD": "a b", "TOKEN": { "from": "SECRET" } }))
            .agent("skills", json!(["review"])),
    );
    fs::create_dir(project.path("review")).unwrap();
    fs::write(project.path("review/SKILL.md"), "how to").unwrap();
    let script = "pwd; echo $WORD $TOKEN $HOME; cat ~/.claude/skills/review/SKILL.md; echo; echo made > file; id -u";
    let mut start = project.start(&["--offline", "--", "sh", "-c", script]);
    let told = text(&start.env("SECRET", "hunter2").output().unwrap());
    assert_eq!(told, "/work\na b hunter2 /home/agent\nhow to\n1000\n");
    assert_eq!(fs::read_to_string(project.path("file")).unwrap(), "made\n");
}

fn a_prompt_is_the_last_argument(on: On) {
    let build = Build::new()
        .agent("command", json!(["sh", "-c", "printf '%s|' \"$@\"", "x", "-p"]))
        .agent("prompt", json!("Review\nthis."));
    let output = Project::on(on, &build).start(&[]).output().unwrap();
    assert_eq!(text(&output), "-p|Review\nthis.|");
}

fn codes_come_through(on: On) {
    let project = Project::on(on, &Build::new());
    let code = |script: &str| project.sh(script).status.code();
    assert_eq!(code("exit 7"), Some(7));
    assert_eq!(code("kill -9 $$"), Some(137));
    let start = |program: &str| {
        let output = project.start(&["--offline", "--", program]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = start("no-such-program");
    assert_eq!(code, Some(127), "{said}");
    let (code, said) = start("/etc");
    assert_eq!(code, Some(126), "{said}");
}

fn input_is_passed_on(on: On) {
    let project = Project::on(on, &Build::new());
    let mut start = project.start(&["--offline", "--", "cat"]);
    let mut child = start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap()), "typed");
}

fn nothing_is_reached_and_nothing_of_the_host_is_seen() {
    needs_user_namespaces();
    let project = Project::new(&Build::new());
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let address = host.local_addr().unwrap();
    let port = address.port();
    let script = format!(
        "try() {{ timeout 5 bash -c \"exec 3<>/dev/tcp/$1/$2\" 2>&1 | grep -om1 'refused\\|unreachable' || echo \"$1\"; }}
         try 127.0.0.1 {port}; try 10.200.0.1 8888; try 192.0.2.1 443
         tail -n +2 /proc/net/route | wc -l
         ls -A /home /root /run /var 2>/dev/null
         find /etc -name private
         env | cut -d= -f1 | sort | tr '\\n' ' '"
    );
    let mut start = project.start(&["--offline", "--", "bash", "-c", &script]);
    let told = text(&start.env("OF_THE_HOST", "1").output().unwrap());
    let names = told.lines().last().unwrap().replace("PWD ", "").replace("OLD", "");
    let begun: Vec<_> = told.lines().take(5).collect();
    assert_eq!(begun, ["refused", "refused", "unreachable", "1", "/home:"], "{told}");
    assert!(!told.contains("/root") && !told.contains("/run"), "{told}");
    assert!(names.starts_with("HOME PATH ") && !names.contains("OF_THE_HOST"), "{names}");
    assert!(!told.contains("private"), "{told}");
    assert_eq!(host.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    // The listener stands.
    TcpStream::connect(address).unwrap();
    assert!(host.accept().is_ok());
}

/// Every argument of every process on this machine.
fn arguments() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let all = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    all.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

/// What an engine shows of all that it has says nothing of the secret, and does say what the bottle is.
fn nobody_is_shown(secret: &str, private: &Private) {
    let docker = private.client.docker();
    let shown = private.runtime.block_on(async {
        let mut shown = Vec::new();
        for container in docker.list_containers(None).await.unwrap() {
            let id = container.id.unwrap();
            // Those of other tests may go meanwhile.
            let Ok(inspected) = docker.inspect_container(&id, None).await else { continue };
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
            let logs: Vec<_> = docker.logs(&id, Some(options)).collect().await;
            shown.push(format!("{inspected:?} {logs:?}"));
        }
        shown
    });
    assert!(shown.iter().any(|shown| shown.contains("smith-")), "{shown:?}");
    assert!(!shown.iter().any(|shown| shown.contains(secret)));
}

fn secrets_are_in_no_argument_and_nothing_is_left(on: On) {
    let project =
        Project::on(on, &Build::new().bottle("env", json!({ "TOKEN": { "from": "SECRET" } })));
    let (secret, mark) =
        (format!("secret-{:x}", std::process::id()), 98_000_000 + std::process::id());
    let script = format!("echo ready $TOKEN; exec sleep {mark}");
    let mut start = project.start(&["--offline", "--", "sh", "-c", &script]);
    let start = start.env("SECRET", &secret).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = start.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, format!("ready {secret}\n"));
    let sleeping = format!("sleep\0{mark}\0");
    // `sh` may not have become `sleep` yet.
    while !arguments().contains(&sleeping) {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!arguments().iter().any(|line| line.contains(&secret)));
    if let On::Docker(private) = on {
        nobody_is_shown(&secret, private);
    }
    // A hang-up ends the command, and with it the bottle.
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(129));
    assert!(!arguments().contains(&sleeping));
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![nothing_is_reached_and_nothing_of_the_host_is_seen];
    all.extend(on_each_backend![
        it_works_in_the_project_with_what_the_manifest_gives_it,
        a_prompt_is_the_last_argument,
        codes_come_through,
        input_is_passed_on,
        secrets_are_in_no_argument_and_nothing_is_left,
    ]);
    all
}
