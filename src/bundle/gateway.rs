//! Our own small forward proxy: its configuration out of what a bottle may reach, and what it tells of its decisions.
//!
//! The program is `guest/gateway`; a backend starts it beside a bottle.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use claude_bottle_protocol::gateway::{Config, Limits};
use serde::Deserialize;

use super::pipelock::{Allowlist, Host};

/// The port that it listens on in a bundle.
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

/// The variables by which programs learn of a proxy at `bundle`. There is no standard: some read them in capitals, some
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

/// One line of the gateway's log. What a client asked for is the guest's word: nothing of it has been made harmless.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Decision {
    /// The destination, `host:port`; empty where none was understood.
    pub target: String,
    /// Why it was refused; none: it was let through.
    pub refused: Option<String>,
}

/// How many different refusals are remembered.
const MOST: usize = 50;

/// What was refused, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    counts: BTreeMap<(String, String), u64>,
    /// How many were not remembered.
    more: u64,
}

impl Refusals {
    /// Takes one line of the log; what is none is passed over.
    pub fn take(&mut self, line: &[u8]) {
        let Ok(Decision { target, refused: Some(why) }) = serde_json::from_slice(line) else {
            return;
        };
        let key = (target, why);
        if self.counts.len() < MOST || self.counts.contains_key(&key) {
            *self.counts.entry(key).or_default() += 1;
        } else {
            self.more += 1;
        }
    }

    /// For a person, a line each; nothing if nothing was refused. It has still to be made harmless.
    pub fn lines(&self) -> Vec<String> {
        let one = |((target, why), count): (&(String, String), &u64)| {
            let target = if target.is_empty() { "a request" } else { target };
            let times = if *count == 1 { String::new() } else { format!(" ×{count}") };
            format!("refused: {target}: {why}{times}")
        };
        let mut lines: Vec<_> = self.counts.iter().map(one).collect();
        if self.more > 0 {
            lines.push(format!("refused: {} more", self.more));
        }
        lines
    }
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
    fn what_was_refused_is_counted_and_bounded() {
        let mut refusals = Refusals::default();
        let line = |target: &str, why: &str| {
            format!(r#"{{"at_unix_ms":1,"target":"{target}","rule":null,"refused":{why}}}"#)
        };
        for line in [
            line("a.test:443", "\"no\""),
            line("a.test:443", "\"no\""),
            line("b.test:443", "null"),
            line("", "\"malformed\""),
            "listening on 127.0.0.1:1".to_owned(),
        ] {
            refusals.take(line.as_bytes());
        }
        assert_eq!(
            refusals.lines(),
            ["refused: a request: malformed", "refused: a.test:443: no ×2"]
        );
        (0..100).for_each(|n| refusals.take(line(&format!("{n}.test:1"), "\"no\"").as_bytes()));
        assert_eq!(refusals.lines().len(), MOST + 1);
        assert_eq!(refusals.lines().last().unwrap(), "refused: 52 more");
    }
}
