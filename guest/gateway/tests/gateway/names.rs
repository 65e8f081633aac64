//! Names: resolved once, and where they lead.

use std::sync::mpsc::Receiver;

use libtest_mimic::Trial;
use serde_json::json;

use crate::program::Gateway;
use crate::servers::{resolver, server, server_at};
use crate::trials::trials;

fn get(host: &str) -> String {
    format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Servers at one port of two addresses. At the second one somebody else may have the port that the first one got.
fn pair() -> (u16, Receiver<String>, Receiver<String>) {
    let one = |_| {
        let (port, first) = server();
        let (_, second) = server_at(([127, 0, 0, 2], port).into()).ok()?;
        Some((port, first, second))
    };
    (0..100).find_map(one).expect("some port is free at both")
}

fn a_name_is_resolved_once_and_what_was_checked_is_dialled() {
    let (port, first, second) = pair();
    let (resolver, asked) = resolver(&[("a.test", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let allow = [format!("a.test:{port}"), format!("127.0.0.0/8:{port}")];
    let gateway = Gateway::with(json!({ "allow": allow, "resolver": resolver.to_string() }));
    let answer = gateway.ask(get(&format!("A.test.:{port}")));
    assert!(answer.ends_with("hi"), "{answer}");
    assert!(first.recv().unwrap().starts_with("GET / HTTP/1.1\r\n"));
    assert!(second.try_recv().is_err());
    let asked: Vec<_> = asked.try_iter().filter(|query| query.ends_with(" A")).collect();
    assert_eq!(asked, ["a.test A"], "one look-up, without a search domain");
}

fn a_name_that_leads_elsewhere_than_to_the_internet_is_refused() {
    let (port, nothing) = server();
    let inside: &[(&str, &[&str])] = &[
        ("loopback.test", &["127.0.0.1"]),
        ("private.test", &["10.1.2.3"]),
        ("link.test", &["169.254.1.1"]),
        ("metadata.test", &["169.254.169.254"]),
        ("shared.test", &["100.100.100.200"]),
        ("this.test", &["0.0.0.0"]),
        ("group.test", &["224.0.0.251"]),
        ("v6.test", &["::1"]),
        ("local.test", &["fd00:ec2::254"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("compatible.test", &["::127.0.0.1"]),
        ("translated.test", &["64:ff9b::7f00:1"]),
        ("sixtofour.test", &["2002:7f00:1::1"]),
        // One of several is enough.
        ("mixed.test", &["203.0.113.1", "127.0.0.1"]),
        ("both.test", &["203.0.113.1", "::1"]),
    ];
    let answers: Vec<[&[&str]; 1]> = inside.iter().map(|(_, ips)| [*ips]).collect();
    let names: Vec<(&str, &[&[&str]])> =
        inside.iter().zip(&answers).map(|((name, _), list)| (*name, &list[..])).collect();
    let (resolver, _asked) = resolver(&names);
    let gateway = Gateway::with(
        json!({ "allow": ["*.test", format!("*.test:{port}")], "resolver": resolver.to_string() }),
    );
    for (name, _) in inside {
        let connect = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
        for request in [get(&format!("{name}:{port}")), connect] {
            let answer = gateway.ask(&request);
            assert!(answer.starts_with("HTTP/1.1 403 "), "{name}: {answer}");
            assert!(answer.contains("internal address"), "{name}: {answer}");
        }
    }
    assert!(nothing.try_recv().is_err(), "nothing was sent upstream");
    // The control: whoever names that address too gets there.
    let allow = [format!("loopback.test:{port}"), format!("127.0.0.1:{port}")];
    let gateway = Gateway::with(json!({ "allow": allow, "resolver": resolver.to_string() }));
    assert!(gateway.ask(get(&format!("loopback.test:{port}"))).ends_with("hi"));
    nothing.recv().unwrap();
}

fn a_name_without_an_address_is_a_bad_gateway() {
    let (resolver, _asked) = resolver(&[]);
    let limits = json!({ "dial_ms": 2000 });
    let gateway = Gateway::with(
        json!({ "allow": ["*.test"], "resolver": resolver.to_string(), "limits": limits }),
    );
    let answer = gateway.ask(get("nowhere.test"));
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.ends_with("does not resolve\n"),
        "{answer}"
    );
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_name_is_resolved_once_and_what_was_checked_is_dialled,
        a_name_that_leads_elsewhere_than_to_the_internet_is_refused,
        a_name_without_an_address_is_a_bad_gateway,
    ]
}
