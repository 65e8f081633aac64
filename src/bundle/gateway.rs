//! Our own small forward proxy: its configuration out of what a bottle may reach, and what its log tells of its decisions.
//!
//! The program is `guest/gateway`; a backend starts it beside a bottle.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use claude_bottle_protocol::gateway::{Config, Limits};
use serde::Deserialize;

use super::pipelock::{Allowlist, Host};
use super::refusals::Refusal;

/// The port that it, or pipelock in its place, listens on in a bundle.
pub const PORT: u16 = 8888;

/// The gateway's configuration for a bottle that may reach `egress`, with an inherited socket and the system's resolver.
pub fn config(egress: &Allowlist) -> Config {
    let rules = egress.iter().flat_map(|entry| {
        entry.ports.iter().map(|port| match &entry.host {
            Host::V6(address) => format!("[{address}]:{port}"),
            host => format!("{host}:{port}"),
        })
    });
    Config { allow: rules.collect(), listen: None, resolver: None, limits: Limits::default() }
}

/// The variables by which programs learn of the proxy at `bundle`, whichever it is. There is no standard: some read them in capitals, some
/// (`curl`, for `http_proxy`) in lower case alone.
pub fn variables(bundle: IpAddr) -> BTreeMap<String, String> {
    variables_at(SocketAddr::new(bundle, PORT))
}

/// The same of a proxy at another port.
pub fn variables_at(proxy: SocketAddr) -> BTreeMap<String, String> {
    let proxy = format!("http://{proxy}");
    let own = "localhost,127.0.0.1,::1".to_owned();
    let all = [("HTTP_PROXY", &proxy), ("HTTPS_PROXY", &proxy), ("NO_PROXY", &own)];
    let both = all.into_iter().flat_map(|(name, value)| {
        [(name.to_owned(), value.clone()), (name.to_lowercase(), value.clone())]
    });
    both.collect()
}

/// One line of the gateway's log.
#[derive(Deserialize)]
struct Decision {
    target: String,
    refused: Option<String>,
}

/// What a line of the log says was refused, if it says that.
pub fn refused(line: &[u8]) -> Option<Refusal> {
    let Decision { target, refused } = serde_json::from_slice(line).ok()?;
    refused.map(|why| Refusal { target, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::pipelock::{Source, Wanted, classify};

    #[test]
    fn each_host_is_a_rule_for_each_of_its_ports() {
        let wanted = |host: &str, ports: &[u16]| Wanted {
            source: Source::Egress { line: 1 },
            host: classify(host).unwrap(),
            ports: ports.iter().copied().collect(),
        };
        let list = Allowlist::of([
            wanted("a.test", &[80, 443]),
            wanted("*.b.test", &[443]),
            wanted("2001:db8::1", &[22]),
            wanted("10.0.0.0/8", &[5432]),
            wanted("2001:db8::/32", &[443]),
        ]);
        let expected = [
            "a.test:80",
            "a.test:443",
            "*.b.test:443",
            "[2001:db8::1]:22",
            "10.0.0.0/8:5432",
            "2001:db8::/32:443",
        ];
        assert_eq!(config(&list).allow, expected);
        assert!(config(&Allowlist::default()).allow.is_empty());
    }

    #[test]
    fn programs_find_it_by_any_spelling() {
        let variables = variables("10.200.0.1".parse().unwrap());
        let names: Vec<_> = variables.keys().map(String::as_str).collect();
        let expected =
            ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];
        assert_eq!(names, expected);
        assert_eq!(variables["https_proxy"], "http://10.200.0.1:8888");
    }

    #[test]
    fn a_decision_against_somebody_is_found_in_the_log() {
        let line = |why: &str| {
            format!(r#"{{"at_unix_ms":1,"target":"a.test:443","rule":null,"refused":{why}}}"#)
        };
        let refusal = Refusal { target: "a.test:443".to_owned(), why: "no".to_owned() };
        assert_eq!(refused(line("\"no\"").as_bytes()), Some(refusal));
        assert_eq!(refused(line("null").as_bytes()), None);
        assert_eq!(refused(b"listening on 127.0.0.1:1"), None);
    }
}
