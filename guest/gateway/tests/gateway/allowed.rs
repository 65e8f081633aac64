//! What the list lets through, and what it does not.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::program::Gateway;
use crate::servers::server;
use crate::trials::trials;

fn what_is_allowed_is_reached_and_nothing_else() {
    let (allowed, got) = server();
    let (other, nothing) = server();
    let gateway = Gateway::allowing(&[&format!("127.0.0.1:{allowed}")]);
    let get = |host: &str, fields: &str| {
        gateway.ask(format!("GET http://{host}/path HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"))
    };
    let reached = |answer: &str| answer.starts_with("HTTP/1.1 200") && answer.ends_with("hi");

    assert!(reached(&get(
        &format!("127.0.0.1:{allowed}"),
        "Upgrade: h2c\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\n"
    )));
    let seen = got.recv().unwrap().to_lowercase();
    assert!(
        seen.starts_with("get /path http/1.1\r\n")
            && !seen.contains("upgrade")
            && !seen.contains("x-hop"),
        "{seen}"
    );
    let tunnel =
        format!("CONNECT 127.1:{allowed} HTTP/1.1\r\nHost: 127.1:{allowed}\r\n\r\nthrough");
    let answer = gateway.ask(&tunnel);
    assert!(
        answer.starts_with("HTTP/1.1 200 Connection Established\r\n\r\n") && answer.ends_with("hi"),
        "{answer}"
    );
    assert_eq!(got.recv().unwrap(), "through");

    for host in [
        format!("127.0.0.1:{other}"),
        format!("[::ffff:7f00:1]:{other}"),
        format!("2130706433:{other}"),
    ] {
        assert!(get(&host, "").starts_with("HTTP/1.1 403"), "{host}");
        let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert!(gateway.ask(&connect).starts_with("HTTP/1.1 403"), "{host}");
    }
    let smuggled =
        get(&format!("127.0.0.1:{allowed}"), "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    assert!(smuggled.starts_with("HTTP/1.1 400"), "{smuggled}");
    assert!(got.try_recv().is_err() && nothing.try_recv().is_err(), "nothing was sent upstream");
    // The control: the server that must not be reached would have been.
    TcpStream::connect(("127.0.0.1", other)).unwrap().write_all(b"x").unwrap();
    assert_eq!(nothing.recv_timeout(Duration::from_secs(20)).unwrap(), "x");
}

fn an_empty_list_denies_all() {
    let (port, got) = server();
    let gateway = Gateway::allowing(&[]);
    let answer =
        gateway.ask(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.ends_with("the host is not allowed\n"),
        "{answer}"
    );
    assert!(got.try_recv().is_err());
    let decisions = gateway.decisions(1);
    assert_eq!(decisions[0]["target"], format!("127.0.0.1:{port}"));
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![what_is_allowed_is_reached_and_nothing_else, an_empty_list_denies_all,]
}
