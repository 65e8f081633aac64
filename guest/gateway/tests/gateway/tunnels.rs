//! Tunnels: for whom they are, and what is in them.

use std::io::{Read as _, Write as _};

use serde_json::json;

use crate::program::{Gateway, rest};
use crate::servers::{echo, resolver, server_at};

fn sized(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[4 - width..], bytes].concat()
}

/// A TLS client's first message, to this server or to none (RFC 8446 §4.1.2).
fn hello(server: Option<&str>) -> Vec<u8> {
    let names = server.map(|server| {
        let name = [&[0][..], &sized(2, server.as_bytes())].concat();
        [&[0, 0][..], &sized(2, &sized(2, &name))].concat()
    });
    let extensions = sized(2, &names.unwrap_or_default());
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &extensions].concat();
    [&[22, 3, 1][..], &sized(2, &[&[1][..], &sized(3, &body)].concat())].concat()
}

/// Port 443 of an address of its own, where it may be bound.
fn tls_server() -> Option<std::sync::mpsc::Receiver<String>> {
    match server_at(([127, 77, 0, 1], 443).into()) {
        Ok((_, told)) => Some(told),
        Err(error) => {
            eprintln!("skipped: needs port 443 of 127.77.0.1: {error}");
            None
        }
    }
}

#[test]
fn the_server_name_in_a_tunnel_is_its_destination() {
    let Some(got) = tls_server() else { return };
    let (resolver, _asked) = resolver(&[("a.test", &[&["127.77.0.1"]])]);
    let allow = ["a.test", "b.test", "127.77.0.1"];
    let gateway = Gateway::with(json!({ "allow": allow, "resolver": resolver.to_string() }));
    for (server, why) in [
        (Some("b.test"), "another server name than the destination"),
        (Some("x.a.test"), "another server name than the destination"),
        (None, "no server name"),
    ] {
        let mut tunnel = gateway.tunnel("a.test:443");
        tunnel.write_all(&hello(server)).unwrap();
        assert_eq!(rest(&mut tunnel), "", "{server:?}: it ends");
        let decision = &gateway.decisions(1)[0];
        assert_eq!(decision["refused"], format!("in the tunnel: {why}"));
    }
    // Nor is anything spoken there but TLS.
    let mut tunnel = gateway.tunnel("a.test:443");
    tunnel.write_all(b"SSH-2.0-x\r\n").unwrap();
    assert_eq!(rest(&mut tunnel), "");
    assert_eq!(gateway.decisions(1)[0]["refused"], "in the tunnel: no TLS hello");
    assert!(got.try_recv().is_err(), "the server was not even dialled");
    // In pieces, as networks do it.
    for (to, server) in [("a.test:443", Some("A.test")), ("127.77.0.1:443", None)] {
        let mut tunnel = gateway.tunnel(to);
        for part in hello(server).chunks(7) {
            tunnel.write_all(part).unwrap();
        }
        assert!(rest(&mut tunnel).ends_with("hi"), "{to}");
        got.recv().unwrap();
        assert_eq!(gateway.decisions(1)[0]["refused"], serde_json::Value::Null);
    }
}

#[test]
fn where_a_rule_names_the_port_anything_may_be_spoken_in_both_directions() {
    let port = echo();
    let gateway = Gateway::allowing(&[&format!("127.0.0.1:{port}")]);
    let mut tunnel = gateway.tunnel(&format!("127.0.0.1:{port}"));
    let much: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut sender = tunnel.try_clone().unwrap();
    let sent = much.clone();
    let sending = std::thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    tunnel.read_to_end(&mut back).unwrap();
    sending.join().unwrap();
    assert!(back == much, "{} of {} bytes came back", back.len(), much.len());
}

#[test]
fn one_line_of_json_tells_each_decision() {
    let port = echo();
    let gateway = Gateway::allowing(&[&format!("127.0.0.1:{port}")]);
    drop(gateway.tunnel(&format!("127.0.0.1:{port}")));
    gateway.ask("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n");
    gateway.ask("\x01\r\n\r\n");
    let [through, refused, malformed] = &gateway.decisions(3)[..] else { panic!("three lines") };
    assert_eq!(through["method"], "CONNECT");
    assert_eq!(through["target"], format!("127.0.0.1:{port}"));
    assert_eq!(through["rule"], format!("127.0.0.1:{port}"));
    assert!(through["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(through["at_unix_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(refused["target"], "evil.test:443");
    assert_eq!(
        (&refused["rule"], &refused["refused"]),
        (&json!(null), &json!("the host is not allowed"))
    );
    assert_eq!(malformed["target"], "");
    assert!(malformed["refused"].as_str().unwrap().starts_with("malformed request"));
}
