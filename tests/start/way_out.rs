//! A command whose one way out is the gateway.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::build::Build;
use crate::project::Project;
use crate::trials::{needs_user_namespaces, trials};

/// How long a process that was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// A web server on the real loopback that answers each connection and tells what it was asked.
fn server() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // What is asked ends with an empty line, and need not come in one piece.
            let lines = BufReader::new(&stream).lines().map(Result::unwrap);
            let asked: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            let _ = stream.write_all(answer.as_bytes());
            if tell.send(asked.join("\n")).is_err() {
                return;
            }
        }
    });
    (port, told)
}

/// A shell function that sends its arguments to the proxy that the environment names, and prints the answer.
const ASK: &str = r#"
ask() {
    proxy=${https_proxy#http://}
    exec 3<>"/dev/tcp/${proxy%:*}/${proxy#*:}" || return
    printf "$1" >&3
    cat <&3
    exec 3>&-
}
"#;

fn what_the_manifest_names_is_reached_through_the_gateway_and_nothing_else() {
    needs_user_namespaces();
    let (allowed, got) = server();
    let (other, nothing) = server();
    let egress = json!([{ "host": "127.0.0.1", "ports": [allowed] }]);
    let project = Project::new(&Build::new().bottle("egress", egress));
    let connect = |port: u16, then: &str| {
        format!(r"ask 'CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n{then}'")
    };
    let direct = format!(
        "for port in {allowed} {other}; do (exec 4<>/dev/tcp/127.0.0.1/$port) 2>&1 | grep -om1 refused; done"
    );
    let script = format!(
        r#"{ASK}
        [ "$HTTP_PROXY$HTTPS_PROXY$http_proxy" = "$https_proxy$https_proxy$https_proxy" ] || echo differ
        ask 'GET http://127.0.0.1:{allowed}/page HTTP/1.1\r\nHost: 127.0.0.1:{allowed}\r\n\r\n'; echo
        {}; echo
        {}; {}; {}
        {direct}
        cat /proc/*/cmdline | tr '\0' '\n' | grep -cx -- '--until-eo[f]'"#,
        connect(allowed, r"through\n\n"),
        connect(other, r"through\n\n"),
        connect(other, r"through\n\n"),
        connect(22, ""),
    );
    let output = project.start(&["--", "bash", "-c", &script]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{output:?}");
    assert_eq!(told.matches("hello").count(), 2, "{told}");
    assert_eq!(told.matches("HTTP/1.1 403").count(), 3, "{told}");
    assert!(!told.contains("differ"), "{told}");
    // Nothing directly; and the gateway is none of the bottle's processes.
    assert!(told.ends_with("\nrefused\nrefused\n0\n"), "{told}");
    assert!(got.recv().unwrap().starts_with("GET /page HTTP/1.1\n"));
    assert_eq!(got.recv().unwrap(), "through");
    assert!(nothing.try_recv().is_err() && got.try_recv().is_err(), "nothing was sent upstream");
    let said = String::from_utf8_lossy(&output.stderr);
    let refused = format!("refused: 127.0.0.1:{other}: the port is not allowed ×2\n");
    assert!(said.contains(&refused), "{said}");
    // The control: that server would have been reached.
    TcpStream::connect((Ipv4Addr::LOCALHOST, other)).unwrap().write_all(b"x").unwrap();
    assert_eq!(nothing.recv().unwrap(), "x");
}

fn offline_there_is_no_gateway() {
    needs_user_namespaces();
    let (port, got) = server();
    let egress = json!([{ "host": "127.0.0.1", "ports": [port] }]);
    let project = Project::new(&Build::new().bottle("egress", egress));
    let script = "env | grep -ic proxy; (exec 3<>/dev/tcp/10.200.0.1/8888) 2>&1 | grep -q refused && echo refused";
    let output = project.start(&["--offline", "--", "bash", "-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\nrefused\n", "{output:?}");
    assert!(got.try_recv().is_err());
}

/// Processes whose first argument is the gateway's, by their ids.
fn gateways() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let is_gateway = |line: &[u8]| line.split(|byte| *byte == 0).any(|word| word == b"--until-eof");
    let all = processes
        .filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| is_gateway(&line)));
    all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The ids of `pid`'s children, and theirs.
fn below(pid: u32) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), vec![pid.to_string()]);
    while let Some(pid) = next.pop() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        // The thread that starts processes is not the first one.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let more = threads.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        for children in children.into_iter().chain(more) {
            next.extend(children.split_whitespace().map(ToOwned::to_owned));
        }
        all.push(pid);
    }
    all
}

fn the_gateway_has_no_privilege_and_ends_with_the_command() {
    needs_user_namespaces();
    let egress = json!([{ "host": "127.0.0.1", "ports": [9] }]);
    let project = Project::new(&Build::new().bottle("egress", egress));
    let mut start = project.start(&["--", "sh", "-c", "echo ready; cat"]);
    let mut child = start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    let below = below(child.id());
    let ours: Vec<_> = gateways().into_iter().filter(|pid| below.contains(pid)).collect();
    let [gateway] = &ours[..] else { panic!("one gateway: {ours:?}") };
    let status = fs::read_to_string(format!("/proc/{gateway}/status")).unwrap();
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let [own, its] = ["self", gateway]
        .map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default());
    assert_eq!(own, its, "it is in the host's net namespace");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!gateways().contains(gateway));
}

/// What is said to nobody goes nowhere else: no program falls back to a direct way, since there is none.
fn without_its_gateway_a_command_reaches_nothing() {
    needs_user_namespaces();
    let (allowed, got) = server();
    let egress = json!([{ "host": "127.0.0.1", "ports": [allowed] }]);
    let project = Project::new(&Build::new().bottle("egress", egress));
    let get = |page: &str| {
        format!(
            r"ask 'GET http://127.0.0.1:{allowed}/{page} HTTP/1.1\r\nHost: 127.0.0.1:{allowed}\r\n\r\n'"
        )
    };
    let script = format!(
        "{ASK}
         {} | grep -c hello; echo ready; read -r go
         ({}) 2>&1 | grep -q refused && echo the gateway
         (exec 4<>/dev/tcp/127.0.0.1/{allowed}) 2>&1 | grep -q refused && echo directly",
        get("before"),
        get("after"),
    );
    let mut start = project.start(&["--", "bash", "-c", &script]);
    let mut child = start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.by_ref().take(2).collect::<Vec<_>>(), ["1", "ready"]);
    let below = below(child.id());
    for gateway in gateways().into_iter().filter(|pid| below.contains(pid)) {
        let pid = Pid::from_raw(gateway.parse().unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
        // A process that is on its way out has no command line any more, and yet its sockets.
        let process = Path::new("/proc").join(&gateway);
        let begun = Instant::now();
        while process.exists() {
            assert!(begun.elapsed() < PATIENCE, "{gateway} is killed, and nobody has reaped it");
            thread::sleep(Duration::from_millis(1));
        }
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(lines.collect::<Vec<_>>(), ["the gateway", "directly"]);
    child.wait().unwrap();
    assert!(got.recv().unwrap().starts_with("GET /before "));
    assert!(got.try_recv().is_err(), "nothing was sent upstream");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        what_the_manifest_names_is_reached_through_the_gateway_and_nothing_else,
        offline_there_is_no_gateway,
        without_its_gateway_a_command_reaches_nothing,
        the_gateway_has_no_privilege_and_ends_with_the_command,
    ]
}
