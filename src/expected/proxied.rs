//! What the gateway must make of what it is asked for, by its list alone.
//!
//! The rules are read here once more, independently of the gateway's own reader of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use claude_bottle_protocol::gateway::Weakness;
use claude_bottle_protocol::helper::REAL;
use claude_bottle_protocol::prober::{Asks, How, Proxied};
use claude_bottle_protocol::witness::Transport;

use super::methods::Fate;
use super::network::Network;
use super::{Topology, names};

/// The ports of HTTP and HTTPS, which are meant where a rule names none.
const USUAL: [u16; 2] = [80, 443];
/// Where the canary resolver leads names to that it knows nothing of (RFC 5737).
const HARMLESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

/// The real gateway of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPlan {
    /// The net that it listens in and dials from.
    pub net: String,
    /// Where it listens.
    pub listens_on: SocketAddr,
    /// The list that the plan has.
    pub planned: Vec<String>,
    /// The list that it goes by.
    pub allow: Vec<String>,
    /// What it overlooks.
    pub weakness: Option<Weakness>,
}

/// A host as everybody must read it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Ip(IpAddr),
    /// None, or one that hides what it is.
    Obscure,
}

fn read(spelled: &str) -> Host {
    let hides = |c: char| matches!(c, '@' | '%' | '/' | '\\' | '?' | '#');
    if spelled.contains(hides) {
        return Host::Obscure;
    }
    let name = spelled.strip_suffix('.').unwrap_or(spelled).to_ascii_lowercase();
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
    let is_literal = bare.parse::<IpAddr>().is_ok()
        || name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    if !is_literal {
        return Host::Name(name);
    }
    names::literal(&name).map_or(Host::Obscure, |ip| Host::Ip(ip.to_canonical()))
}

/// What has been decided, and why.
type Decision = Result<Vec<IpAddr>, (How, String)>;

/// Whether the plan lets through what is asked for. A name that changes its mind is let through as what it led to first, and
/// nothing of the lab's is there.
pub(super) fn permits(asked: &Proxied, topology: &Topology) -> bool {
    topology.gateway.as_ref().is_some_and(|gateway| {
        let sound =
            GatewayPlan { allow: gateway.planned.clone(), weakness: None, ..gateway.clone() };
        decide(&sound, asked).is_ok() && !asked.target.host.ends_with(".flips.test")
    })
}

/// The fate of what is said to the gateway.
pub(super) fn fate(asked: &Proxied, topology: &Topology) -> Fate {
    if topology.bottle.net == REAL {
        let way = "the bottle is in the real net: no gateway may be asked from there";
        return Fate::Fused { way: way.into() };
    }
    from(&topology.bottle.net, asked, topology)
}

/// The listener that gets what is said to the gateway in the net `net`.
pub(super) fn carried_on(asked: &Proxied, net: &str, topology: &Topology) -> Option<u32> {
    match from(net, asked, topology) {
        Fate::Arrives { listener, .. } => Some(listener),
        _ => None,
    }
}

fn from(net: &str, asked: &Proxied, topology: &Topology) -> Fate {
    let Some(gateway) = &topology.gateway else { return Fate::Unknown };
    let network = Network::new(topology);
    let there = network.send(net, Transport::Tcp, gateway.listens_on);
    // Nothing but the gateway itself, of which the network does not know, could answer there.
    if there.how != How::Refused {
        return Fate::Stays { how: there.how, way: there.way.to_string() };
    }
    let addresses = match decide(gateway, asked) {
        Ok(addresses) => addresses,
        Err((how, why)) => return Fate::Stays { how, way: format!("the gateway: {why}") },
    };
    let port = upstream_port(asked);
    let mut way = String::new();
    for ip in addresses {
        let course = network.send(&gateway.net, Transport::Tcp, SocketAddr::new(ip, port));
        way = format!("the gateway lets it through: {}", course.way);
        if let Some(listener) = course.listener {
            return Fate::Arrives { listener, way };
        }
    }
    let is_tunnel = matches!(asked.asks, Asks::Connect | Asks::ForeignSni);
    // Where it looks at what a tunnel begins with it dials after that, and can only end it.
    let how =
        if is_tunnel && USUAL.contains(&port) { How::DeniedByProxy } else { How::Unreachable };
    Fate::Stays { how, way }
}

/// The port that is dialled in the end.
fn upstream_port(asked: &Proxied) -> u16 {
    match asked.asks {
        Asks::Connect | Asks::Get => asked.target.port,
        Asks::ForeignSni => 443,
        Asks::ForeignHost | Asks::Smuggled => 80,
    }
}

/// The addresses that are dialled.
fn decide(gateway: &GatewayPlan, asked: &Proxied) -> Decision {
    let denied = |why: &str| Err((How::DeniedByProxy, why.to_owned()));
    let overlooks = |weakness| gateway.weakness == Some(weakness);
    let (target, allowed) = (read(&asked.target.host), read(&asked.allowed));
    let (host, port) = match asked.asks {
        Asks::Connect | Asks::Get => (&target, asked.target.port),
        _ => (&allowed, upstream_port(asked)),
    };
    let kept = match asked.asks {
        Asks::ForeignSni => target != allowed && !overlooks(Weakness::NoSniCheck),
        Asks::ForeignHost => target != allowed && !overlooks(Weakness::NoHostCheck),
        Asks::Smuggled => !overlooks(Weakness::ForwardRaw),
        Asks::Connect | Asks::Get => *host == Host::Obscure,
    };
    if !gateway_lets(gateway, host, port) {
        return denied("no rule lets it through");
    }
    if kept {
        return denied("what is asked for is not what it seems to be");
    }
    let addresses = match host {
        Host::Ip(ip) => vec![*ip],
        Host::Name(name) => leads_to(name, overlooks(Weakness::ResolveTwice)),
        Host::Obscure => return denied("it is no host"),
    };
    let checked = match host {
        Host::Name(name) => leads_to(name, false),
        _ => addresses.clone(),
    };
    let is_internal = checked.into_iter().any(|ip| !is_internet(ip.to_canonical()));
    if is_internal && !overlooks(Weakness::NoAddressCheck) {
        return denied("it leads to an address that is not the internet's");
    }
    Ok(addresses.into_iter().map(|ip| ip.to_canonical()).collect())
}

/// Where the canary resolver leads a name, the first time or after.
fn leads_to(name: &str, again: bool) -> Vec<IpAddr> {
    if name.ends_with(".flips.test") {
        return vec![if again { Ipv4Addr::LOCALHOST.into() } else { HARMLESS }];
    }
    // Nobody is asked for these (RFC 6761 §6.3).
    if name == "localhost" || name.ends_with(".localhost") {
        return vec![Ipv4Addr::LOCALHOST.into()];
    }
    let label = name.strip_suffix(".leads-to.test").unwrap_or_default();
    let spelled = |dash: &str| label.replace('-', dash).parse().ok();
    vec![spelled(".").or_else(|| spelled(":")).unwrap_or(HARMLESS)]
}

/// Whether an address is one of the internet's, as far as the lab has such addresses.
fn is_internet(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_assigned = a == 192 && b == 0 && v4.octets()[2] == 0;
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || is_shared
                || is_assigned)
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            let is_translated = (first == 0x64 && second == 0xff9b) || first == 0x2002;
            // 2000::/3, as all of it that has been given out.
            first & 0xe000 == 0x2000 && !is_translated
        }
    }
}

fn gateway_lets(gateway: &GatewayPlan, host: &Host, port: u16) -> bool {
    if *host == Host::Obscure {
        return false;
    }
    if gateway.weakness == Some(Weakness::AllowAll) {
        return true;
    }
    let Host::Name(name) = host else { return false };
    gateway.allow.iter().any(|rule| {
        let (text, at) = match rule.split_once(':') {
            Some((text, at)) => (text, at.parse().ok()),
            None => (rule.as_str(), None),
        };
        let at_port = gateway.weakness == Some(Weakness::AnyPort)
            || at.map_or(USUAL.contains(&port), |at: u16| at == port);
        let is_named = match text.strip_prefix("*.") {
            Some(apex) => {
                name.strip_suffix(apex).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
                    || (gateway.weakness == Some(Weakness::ApexMatchesAll) && name == apex)
            }
            None => {
                name == text
                    || (gateway.weakness == Some(Weakness::SuffixMatches) && name.ends_with(text))
            }
        };
        is_named && at_port
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_reading() {
        let ip = |text: &str| Host::Ip(text.parse().unwrap());
        for (spelled, host) in [
            ("ALLOWED.Test.", Host::Name("allowed.test".into())),
            ("allowed.test.evil.test", Host::Name("allowed.test.evil.test".into())),
            ("127.1", ip("127.0.0.1")),
            ("0x7f000001", ip("127.0.0.1")),
            ("[::ffff:127.0.0.1]", ip("127.0.0.1")),
            ("[::1]", ip("::1")),
            ("allowed.test@evil.test", Host::Obscure),
            ("allowed%2etest", Host::Obscure),
        ] {
            assert_eq!(read(spelled), host, "{spelled}");
        }
    }

    #[test]
    fn only_the_internet_is_the_internet() {
        for text in ["203.0.113.10", "1.1.1.1", "2001:db8::10"] {
            assert!(is_internet(text.parse().unwrap()), "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "64:ff9b::1",
            "2002::1",
            "::1",
            "fd00::1",
        ] {
            assert!(!is_internet(text.parse().unwrap()), "{text}");
        }
    }
}
