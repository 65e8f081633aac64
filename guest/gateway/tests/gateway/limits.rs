//! What clients may not use up.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::Duration;

use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::program::{Gateway, rest};
use crate::servers::{echo, resolver, server};
use crate::trials::{skip, trials};

fn a_head_has_an_end() {
    let (port, nothing) = server();
    let gateway = Gateway::allowing(&[&format!("127.0.0.1:{port}")]);
    let host = format!("127.0.0.1:{port}");
    let get = |fields: &str| {
        gateway.ask(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"))
    };
    let long = format!("X: {}\r\n", "a".repeat(17 * 1024));
    let many = (0..150).fold(String::new(), |mut text, at| {
        let _ = write!(text, "X-{at}: 1\r\n");
        text
    });
    for fields in [long, many] {
        assert!(get(&fields).starts_with("HTTP/1.1 400 "));
    }
    assert!(nothing.try_recv().is_err());
    assert!(get("").ends_with("hi"), "the control");
}

/// To the byte, however it comes: `guest/gateway/src/head.rs` has the number.
fn a_head_of_16_kib_is_one_and_a_longer_one_is_none() {
    let (port, _got) = server();
    let gateway = Gateway::allowing(&[&format!("127.0.0.1:{port}")]);
    let host = format!("127.0.0.1:{port}");
    let head = |length: usize| {
        let begun = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nX: ");
        let value = "a".repeat(length - begun.len() - 4);
        format!("{begun}{value}\r\n\r\n")
    };
    assert_eq!(head(16 * 1024).len(), 16 * 1024);
    assert!(gateway.ask(head(16 * 1024)).ends_with("hi"));
    for pieces in [16 * 1024 + 1, 7000] {
        let mut stream = gateway.connect();
        for piece in head(16 * 1024 + 1).as_bytes().chunks(pieces) {
            stream.write_all(piece).unwrap();
        }
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.ends_with("the head is too long\n"), "{answer}");
    }
}

fn who_takes_too_long_is_answered_and_holds_up_nobody() {
    let (port, _got) = server();
    let limits = json!({ "head_ms": 1500 });
    let allow = [format!("127.0.0.1:{port}"), "a.test".to_owned()];
    let gateway =
        Gateway::with(json!({ "allow": allow, "resolver": "127.0.0.1:9", "limits": limits }));
    let mut slow: Vec<_> = (0..50)
        .map(|_| {
            let mut slow = gateway.connect();
            slow.write_all(b"GET http://").unwrap();
            slow
        })
        .collect();
    let host = format!("127.0.0.1:{port}");
    let answer = gateway.ask(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert!(answer.ends_with("hi"), "{answer}");
    for slow in &mut slow {
        assert!(rest(slow).starts_with("HTTP/1.1 408 "));
    }
}

fn the_oldest_of_the_undecided_gives_way() {
    let gateway = Gateway::allowing(&[]);
    let mut waiting: Vec<_> = (0..257)
        .map(|_| {
            let mut one = gateway.connect();
            one.write_all(b"GET ").unwrap();
            one
        })
        .collect();
    assert!(rest(&mut waiting[0]).starts_with("HTTP/1.1 408 "));
    // The newest is still heard.
    waiting[256].write_all(b"/ HTTP/1.1\r\n\r\n").unwrap();
    assert!(rest(&mut waiting[256]).starts_with("HTTP/1.1 400 "));
}

fn there_are_only_so_many_connections() {
    let port = echo();
    let limits = json!({ "connections": 2 });
    let to = format!("127.0.0.1:{port}");
    let gateway =
        Gateway::with(json!({ "allow": [to], "resolver": "127.0.0.1:9", "limits": limits }));
    let (first, second) = (gateway.tunnel(&to), gateway.tunnel(&to));
    assert!(gateway.ask("").starts_with("HTTP/1.1 503 "));
    drop(first);
    // It may not have noticed yet.
    let mut tries = (0..1000).map(|_| {
        let mut third = gateway.connect();
        let _ = write!(third, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let mut answer = [0; 12];
        let granted = third.read_exact(&mut answer).is_ok_and(|()| answer == *b"HTTP/1.1 200");
        if !granted {
            // Each refusal is a line, and a gateway whose lines nobody reads waits for that in the end.
            gateway.decisions(1);
            std::thread::sleep(Duration::from_millis(5));
        }
        granted
    });
    assert!(tries.any(|granted| granted), "a place is free again");
    drop(second);
}

fn a_tunnel_in_which_nothing_is_said_ends() {
    let port = echo();
    let limits = json!({ "idle_ms": 300 });
    let to = format!("127.0.0.1:{port}");
    let gateway =
        Gateway::with(json!({ "allow": [to], "resolver": "127.0.0.1:9", "limits": limits }));
    let mut tunnel = gateway.tunnel(&to);
    assert_eq!(rest(&mut tunnel), "");
}

/// Its server is not even dialled before it is known for whom it is.
fn a_tunnel_in_which_nobody_says_for_whom_it_is_ends() {
    let (resolver, _asked) = resolver(&[("a.test", &[&["203.0.113.1"]])]);
    let limits = json!({ "head_ms": 300, "idle_ms": 3_600_000 });
    let config = json!({ "allow": ["a.test"], "resolver": resolver.to_string(), "limits": limits });
    let gateway = Gateway::with(config);
    for (port, begun) in [(443, &b"\x16\x03\x01"[..]), (443, b""), (80, b"GET / HT")] {
        let mut tunnel = gateway.tunnel(&format!("a.test:{port}"));
        tunnel.write_all(begun).unwrap();
        assert_eq!(rest(&mut tunnel), "");
        assert_eq!(gateway.decisions(1)[0]["refused"], "no request in time", "{port}");
    }
}

/// A server that sends the parts of its answer one by one, and waits this long before each.
fn slow(pause: Duration, parts: usize) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // An answer that is there before its request is none.
        let head = BufReader::new(&stream).lines().map_while(Result::ok);
        head.take_while(|line| !line.is_empty()).for_each(drop);
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {parts}\r\n\r\n").unwrap();
        for _ in 0..parts {
            std::thread::sleep(pause);
            if stream.write_all(b"x").is_err() {
                return;
            }
        }
    });
    port
}

fn a_plain_request_lasts_as_long_as_something_comes_and_ends_when_nothing_does() {
    let limits = json!({ "idle_ms": 1500 });
    let get = |port: u16| {
        let config = json!({
            "allow": [format!("127.0.0.1:{port}")], "resolver": "127.0.0.1:9", "limits": limits
        });
        let host = format!("127.0.0.1:{port}");
        Gateway::with(config).ask(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    let answer = get(slow(Duration::from_millis(250), 8));
    assert!(answer.ends_with("xxxxxxxx"), "{answer}");
    let answer = get(slow(Duration::from_secs(3600), 1));
    assert!(!answer.ends_with('x'), "{answer}");
}

/// So many an agent never has; none costs more than its sockets and a task.
fn a_thousand_silent_tunnels_take_no_more_than_32_mib() {
    const TUNNELS: usize = 1000;
    const DESCRIPTORS: u64 = 4096;
    // Each tunnel has two ends in this process, its client's and its server's, and two in the gateway.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < DESCRIPTORS {
        skip(format!("needs {DESCRIPTORS} open files; {hard} are to be had here"));
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(DESCRIPTORS), hard).unwrap();
    let to = format!("127.0.0.1:{}", silent());
    let gateway = Gateway::allowing(&[&to]);
    let one = |_| {
        let tunnel = gateway.tunnel(&to);
        // It waits for whoever reads its log.
        gateway.decisions(1);
        tunnel
    };
    let tunnels: Vec<_> = (0..TUNNELS).map(one).collect();
    let path = format!("/proc/{}/smaps_rollup", gateway.id());
    let text = std::fs::read_to_string(path).unwrap();
    let anonymous = text.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    let anonymous: usize = anonymous.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(anonymous > 100, "it is measured: {anonymous} KiB");
    assert!(anonymous <= 32 * 1024, "{anonymous} KiB");
    drop(tunnels);
}

/// A server that keeps each connection and says nothing.
fn silent() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
    port
}

fn the_limit_on_open_files_is_raised_for_its_connections() {
    let port = echo();
    let to = format!("127.0.0.1:{port}");
    let config =
        json!({ "allow": [to], "resolver": "127.0.0.1:9", "limits": { "connections": 200 } });
    let gateway = Gateway::run(config, |command| {
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", "ulimit -Sn 64; exec \"$0\" \"$@\""]);
        limited.arg(command.get_program()).args(command.get_args());
        limited.stdin(std::process::Stdio::piped());
        limited
    });
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(soft >= 464, "{line}");
    let mut tunnels: Vec<_> = (0..100).map(|_| gateway.tunnel(&to)).collect();
    for tunnel in &mut tunnels {
        tunnel.write_all(b"x").unwrap();
        tunnel.read_exact(&mut [0]).unwrap();
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_head_has_an_end,
        a_head_of_16_kib_is_one_and_a_longer_one_is_none,
        who_takes_too_long_is_answered_and_holds_up_nobody,
        the_oldest_of_the_undecided_gives_way,
        there_are_only_so_many_connections,
        a_tunnel_in_which_nothing_is_said_ends,
        a_tunnel_in_which_nobody_says_for_whom_it_is_ends,
        a_plain_request_lasts_as_long_as_something_comes_and_ends_when_nothing_does,
        a_thousand_silent_tunnels_take_no_more_than_32_mib,
        the_limit_on_open_files_is_raised_for_its_connections,
    ]
}
