//! What clients may not use up.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

use serde_json::json;

use crate::program::{Gateway, rest};
use crate::servers::{echo, server};

#[test]
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

#[test]
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

#[test]
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

#[test]
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
        third.read_exact(&mut answer).is_ok_and(|()| answer == *b"HTTP/1.1 200")
    });
    assert!(tries.any(|granted| granted), "a place is free again");
    drop(second);
}

#[test]
fn a_tunnel_in_which_nothing_is_said_ends() {
    let port = echo();
    let limits = json!({ "idle_ms": 300 });
    let to = format!("127.0.0.1:{port}");
    let gateway =
        Gateway::with(json!({ "allow": [to], "resolver": "127.0.0.1:9", "limits": limits }));
    let mut tunnel = gateway.tunnel(&to);
    assert_eq!(rest(&mut tunnel), "");
}

#[test]
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
