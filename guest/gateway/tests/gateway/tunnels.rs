//! Tunnels: for whom they are, and what is in them.

use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::time::Duration;

use libtest_mimic::Trial;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;
use serde_json::json;

use crate::program::{Gateway, rest};
use crate::servers::{answered, echo, resolver, server_at};
use crate::trials::{skip, trials};

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

/// Port 443 of an address of its own. Ends the test as ignored where it cannot be bound.
fn tls_server() -> std::sync::mpsc::Receiver<String> {
    match server_at(([127, 77, 0, 1], 443).into()) {
        Ok((_, told)) => told,
        Err(error) => skip(format!("needs port 443 of 127.77.0.1: {error}")),
    }
}

fn the_server_name_in_a_tunnel_is_its_destination() {
    let got = tls_server();
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

/// A client that is gone when its tunnel could begin: what was decided is told all the same.
fn of_a_client_that_has_gone_meanwhile_there_is_a_line_too() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = resolver.local_addr().unwrap().to_string();
    let limits = json!({ "dial_ms": 20_000 });
    let config = json!({ "allow": ["a.test"], "resolver": address, "limits": limits });
    let gateway = Gateway::with(config);
    let mut client = gateway.connect();
    write!(client, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").unwrap();
    let mut queries = Vec::new();
    for _ in ["A", "AAAA"] {
        let mut buffer = [0; 1500];
        let (length, from) = resolver.recv_from(&mut buffer).unwrap();
        queries.push((buffer[..length].to_vec(), from));
    }
    // It breaks off instead of closing: the gateway can write nothing to it any more.
    setsockopt(&client, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(client);
    for (query, from) in queries {
        resolver.send_to(&answered(&query, &["203.0.113.1".parse().unwrap()]), from).unwrap();
    }
    // Each further client brings a line, so that none is waited for in vain.
    let mut lines = (0..200).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        gateway.ask("\x01\r\n\r\n");
        gateway.decisions(1).remove(0)
    });
    let decision = lines.find(|line| line["target"] == "a.test:443").expect("a line");
    assert_eq!(decision["refused"], "in the tunnel: it ended before it began");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        the_server_name_in_a_tunnel_is_its_destination,
        where_a_rule_names_the_port_anything_may_be_spoken_in_both_directions,
        one_line_of_json_tells_each_decision,
        of_a_client_that_has_gone_meanwhile_there_is_a_line_too,
    ]
}
