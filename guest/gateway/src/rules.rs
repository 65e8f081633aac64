//! The allow-list. What no rule names is denied.

use std::net::IpAddr;

use claude_bottle_protocol::gateway::Weakness;
use ipnet::IpNet;
use thiserror::Error;

use crate::address;
use crate::host::{self, Host};

/// The ports that are meant where a rule names none.
const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// An entry that is no rule.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no host, *.name, address or network, with or without a port")]
pub(crate) struct NoRule(String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Name(String),
    /// Every name below this one, at any depth, and not this one.
    Below(String),
    Net(IpNet),
}

#[derive(Debug, Clone)]
struct Rule {
    text: String,
    what: What,
    port: Option<u16>,
}

/// All rules.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    weakness: Option<Weakness>,
}

/// Why a destination is none of the list's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No rule names the host.
    Host,
    /// Rules name the host, and other ports.
    Port,
}

impl Rules {
    /// Reads a list.
    pub(crate) fn parse(entries: &[String]) -> Result<Self, NoRule> {
        let rules = entries.iter().map(|entry| rule(entry)).collect::<Result<_, _>>()?;
        Ok(Self { rules, weakness: None })
    }

    /// The same list, read with a weakness: only in a lab.
    pub(crate) fn weakened(self, weakness: Option<Weakness>) -> Self {
        Self { weakness, ..self }
    }

    /// The rule that lets a destination through.
    pub(crate) fn judge(&self, host: &Host, port: u16) -> Result<&str, Denied> {
        if self.weakness == Some(Weakness::AllowAll) {
            return Ok("*");
        }
        let any_port = self.weakness == Some(Weakness::AnyPort);
        let mut denied = Denied::Host;
        for rule in self.rules.iter().filter(|rule| self.matches(rule, host)) {
            if any_port || rule.has_port(port) {
                return Ok(&rule.text);
            }
            denied = Denied::Port;
        }
        Err(denied)
    }

    /// Whether an address that is not the internet's may be dialled: a rule has to name it, or a network within its range.
    /// `0.0.0.0/0` names the internet.
    pub(crate) fn names_internal(&self, ip: IpAddr, port: u16) -> bool {
        self.rules.iter().any(|rule| match &rule.what {
            What::Net(net) => {
                net.contains(&ip) && address::is_within_internal(net) && rule.has_port(port)
            }
            What::Name(_) | What::Below(_) => false,
        })
    }

    /// Whether a rule names this very port for this host, so that something else than TLS may be spoken there.
    pub(crate) fn is_opaque(&self, host: &Host, port: u16) -> bool {
        if DEFAULT_PORTS.contains(&port) {
            return false;
        }
        matches!(self.weakness, Some(Weakness::AllowAll | Weakness::AnyPort))
            || self.rules.iter().any(|rule| rule.port == Some(port) && rule.what.matches(host))
    }

    fn matches(&self, rule: &Rule, host: &Host) -> bool {
        rule.what.matches(host)
            || match (self.weakness, &rule.what, host) {
                (Some(Weakness::ApexMatchesAll), What::Below(name), Host::Name(host)) => {
                    name == host
                }
                (Some(Weakness::SuffixMatches), What::Name(name), Host::Name(host)) => {
                    host.ends_with(name.as_str())
                }
                _ => false,
            }
    }
}

impl Rule {
    fn has_port(&self, port: u16) -> bool {
        self.port.map_or_else(|| DEFAULT_PORTS.contains(&port), |one| one == port)
    }
}

impl What {
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Name(name), Host::Name(host)) => name == host,
            (Self::Below(name), Host::Name(host)) => host
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Self::Net(net), Host::Ip(ip)) => net.contains(ip),
            _ => false,
        }
    }
}

fn rule(entry: &str) -> Result<Rule, NoRule> {
    let made = |what, port| Rule { text: entry.to_owned(), what, port };
    let none = || NoRule(entry.chars().take(300).collect());
    if let Ok(net) = entry.parse::<IpNet>() {
        return Ok(made(What::Net(net.trunc()), None));
    }
    if let Ok(ip) = entry.parse::<IpAddr>() {
        return Ok(made(What::Net(ip.to_canonical().into()), None));
    }
    if entry.contains('/') {
        let (net, port) = entry.rsplit_once(':').ok_or_else(none)?;
        let net = net.strip_prefix('[').map_or(net.to_owned(), |rest| rest.replacen(']', "", 1));
        let net: IpNet = net.parse().map_err(|_| none())?;
        return Ok(made(What::Net(net.trunc()), Some(port.parse().map_err(|_| none())?)));
    }
    let (wild, rest) = entry.strip_prefix("*.").map_or((false, entry), |rest| (true, rest));
    let has_port = rest.rfind(':').is_some_and(|at| !rest[at..].contains(']'));
    let (host, port) = host::authority(rest, Some(DEFAULT_PORTS[0])).ok_or_else(none)?;
    let what = match host {
        Host::Name(name) if wild => What::Below(name),
        Host::Name(name) => What::Name(name),
        Host::Ip(_) if wild => return Err(none()),
        Host::Ip(ip) => What::Net(ip.into()),
    };
    Ok(made(what, has_port.then_some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(entries: &[&str]) -> Rules {
        Rules::parse(&entries.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    fn judge(entries: &[&str], target: &str) -> Result<(), Denied> {
        let (host, port) = host::authority(target, None).unwrap();
        rules(entries).judge(&host, port).map(|_| ())
    }

    #[test]
    fn a_rule_names_what_it_says_and_no_more() {
        let list = &[
            "Allowed.Test.",
            "*.a.test",
            "git.test:22",
            "203.0.113.0/24",
            "[2001:db8::1]:8443",
            "10.0.0.0/8:5432",
        ];
        for target in [
            "allowed.test:443",
            "ALLOWED.test.:80",
            "x.a.test:443",
            "y.x.a.test:443",
            "git.test:22",
            "203.0.113.9:443",
            "3405803785:443",
            "[2001:db8::1]:8443",
            "10.1.1.1:5432",
        ] {
            assert_eq!(judge(list, target), Ok(()), "{target}");
        }
        for (target, denied) in [
            ("allowed.test:22", Denied::Port),
            ("allowed.test:25", Denied::Port),
            ("git.test:443", Denied::Port),
            ("10.1.1.1:443", Denied::Port),
            // The apex is none of the names below it.
            ("a.test:443", Denied::Host),
            ("x.allowed.test:443", Denied::Host),
            ("evilallowed.test:443", Denied::Host),
            ("allowed.test.evil.test:443", Denied::Host),
            ("xa.test:443", Denied::Host),
            ("\u{430}llowed.test:443", Denied::Host),
            ("203.0.114.1:443", Denied::Host),
            ("[2001:db8::2]:8443", Denied::Host),
        ] {
            assert_eq!(judge(list, target), Err(denied), "{target}");
        }
        assert_eq!(judge(&[], "a.test:443"), Err(Denied::Host));
    }

    #[test]
    fn an_internal_address_has_to_be_meant() {
        let ip = "10.0.0.9".parse().unwrap();
        assert!(!rules(&["0.0.0.0/0", "*.test"]).names_internal(ip, 443));
        assert!(rules(&["10.0.0.0/24"]).names_internal(ip, 443));
        assert!(!rules(&["10.0.0.0/24"]).names_internal(ip, 22));
    }

    #[test]
    fn what_is_no_rule_is_an_error() {
        for entry in [
            "",
            "*",
            "*.",
            "*.10.0.0.1",
            "a.*.test",
            "http://a.test",
            "a.test:0",
            "10.0.0.0/33",
            "a.test:https",
            "a b",
        ] {
            assert!(rule(entry).is_err(), "{entry}");
        }
    }
}
