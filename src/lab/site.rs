//! Sites: which listeners stand for each port of each site, how a bottle would dial them, and where their controls
//! come from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use claude_bottle_protocol::prober::{Asks, Proxied, SocketFile, Target as Dial};
use claude_bottle_protocol::witness::{Service, Transport};

use crate::probe::definition::{Method, Site, To};

/// The ports at which a gateway's controls are carried on.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// All listeners of a lab.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    listening: BTreeMap<(Site, String, Transport), Vec<Listening>>,
    absent: BTreeMap<(Site, String, Transport), BTreeSet<String>>,
    count: u32,
    /// The cookies of the lab's net namespaces (`SO_NETNS_COOKIE`): a socket of another one must not be used, whoever
    /// left it open.
    pub namespaces: Vec<u64>,
    /// The bundle's gateway, where a real one stands in the lab.
    pub proxy: Option<Proxy>,
    /// What a gateway must carry on in the same window for a refusal of its to mean something, by the way in which it is asked.
    pub gateway_controls: BTreeMap<Asks, Listening>,
    /// Why nothing is dialled but what a witness is bound to, where that is so: no resolver is asked then that might
    /// carry a name on.
    pub nothing_else: Option<String>,
    /// What the bottle may reach because a person said so: nothing else is tried there.
    pub allowed: BTreeSet<(SocketAddr, Transport)>,
    /// What it must reach to show that it runs; none: the bundle's gateway, where there is one.
    pub sign_of_life: Option<(To, Transport)>,
    /// Methods that are not tried in this lab, which could not tell what came of them; each with the reason.
    pub untried: BTreeMap<Method, &'static str>,
}

/// A real gateway in a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where a bottle finds it.
    pub address: SocketAddr,
    /// A name that its list lets through, at the ports of HTTP and HTTPS.
    pub allowed: String,
    /// The place that controls come from which ask it.
    pub control: String,
}

/// One listener of the witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Unique in the lab, given by [`Sites::add`]: a listener may stand for several addresses, each with a control of its
    /// own.
    pub key: u32,
    /// Its number at the witness.
    pub id: u32,
    /// What it stands for, such as `host-loopback tcp/discard`.
    pub name: String,
    /// What it listens with.
    pub transport: Transport,
    /// Where it is bound.
    pub address: Address,
    /// What it answers with, and its controls ask for.
    pub service: Service,
    /// The addresses under which a bottle would dial it.
    pub dialled_as: Vec<IpAddr>,
    /// The place that its controls come from.
    pub control: String,
    /// The address that its controls dial.
    pub control_dials: Address,
}

/// Where a listener is bound, or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// At an internet address.
    Inet(SocketAddr),
    /// At a name in the abstract namespace of Unix sockets, without the leading NUL byte.
    Abstract(String),
    /// At a port of the machine's vsock loopback (CID 1).
    Vsock(u32),
    /// At a path in the file system of its control's place.
    File {
        /// The path there.
        path: String,
        /// Which file it is, wherever it is mounted.
        file: SocketFile,
    },
    /// Behind the bundle's gateway, where controls alone go: what they say to it.
    Gateway(Proxied),
}

impl Address {
    /// The internet address, if it is one.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Abstract(_) | Self::Vsock(_) | Self::File { .. } | Self::Gateway(_) => None,
        }
    }
}

/// As the kernel's tables write it: `@` stands for the NUL byte of abstract names.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
            Self::Vsock(port) => write!(f, "vsock:1:{port}"),
            Self::File { path, .. } => f.write_str(path),
            Self::Gateway(Proxied { proxy, target, .. }) => {
                write!(f, "{}:{} by way of {}:{}", target.host, target.port, proxy.host, proxy.port)
            }
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

/// What one attempt dials, and who must see it if it gets there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What the prober is told to dial.
    pub dial: Dial,
    /// The listeners that may see it.
    pub listeners: Vec<Listening>,
}

/// No witness listens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    /// The reason, for a person.
    pub why: String,
}

impl Sites {
    /// Adds a listener for `port` of `site`.
    pub fn add(&mut self, site: Site, port: &str, transport: Transport, mut listening: Listening) {
        listening.key = self.count;
        self.count += 1;
        self.listening.entry((site, port.to_owned(), transport)).or_default().push(listening);
    }

    /// A gateway stands before the site `proxied`, all of whose listeners are there. Whoever would be refused by it is no evidence
    /// of its list unless it also carries something on: that is what the listeners of [`Sites::gateway_controls`] are for.
    pub fn stand_behind(&mut self, proxy: Proxy) {
        let at =
            |address: SocketAddr| Dial { host: address.ip().to_string(), port: address.port() };
        for (asks, port) in [(Asks::Connect, HTTPS), (Asks::Get, HTTP)] {
            let listeners = self.listening.get(&(Site::Proxied, port.to_string(), Transport::Tcp));
            let Some(mut control) = listeners.and_then(|all| all.first()).cloned() else {
                continue;
            };
            let target = Dial { host: proxy.allowed.clone(), port };
            let allowed = proxy.allowed.clone();
            let asked = Proxied { proxy: at(proxy.address), asks, target, allowed };
            control.control_dials = Address::Gateway(asked);
            control.control.clone_from(&proxy.control);
            control.key = self.count;
            self.count += 1;
            self.gateway_controls.insert(asks, control);
        }
        self.proxy = Some(proxy);
    }

    /// Says why `port` of `site` has no listener, or one fewer.
    pub fn lacks(&mut self, site: Site, port: &str, transport: Transport, why: String) {
        self.absent.entry((site, port.to_owned(), transport)).or_default().insert(why);
    }

    /// Every listener.
    pub fn all(&self) -> impl Iterator<Item = (Site, &str, Transport, &Listening)> {
        self.listening.iter().flat_map(|((site, port, transport), listening)| {
            listening.iter().map(move |one| (*site, port.as_str(), *transport, one))
        })
    }

    /// What to dial for `to`, one target for each address that the site has if the definition spells none.
    pub fn targets(&self, to: &To, transport: Transport) -> Result<Vec<Target>, Unserved> {
        let here = self.listening(to, transport)?;
        let spellings: Vec<String> = if let Some(spelled) = &to.spelled {
            vec![spelled.clone()]
        } else {
            let mut all: Vec<_> = here.iter().flat_map(|one| &one.dialled_as).collect();
            all.dedup();
            all.into_iter().map(ToString::to_string).collect()
        };
        let mut targets = Vec::new();
        for host in spellings {
            let meant = meant_by(&host);
            let mut listeners: Vec<_> =
                here.iter().filter(|one| one.is_meant_by(&meant)).cloned().collect();
            if meant.is_empty() && !to.site.answers_for_others() {
                // A name: the bottle's own resolver says which of the site's addresses it is.
                listeners.extend_from_slice(here);
            }
            if listeners.is_empty() && to.site.answers_for_others() && self.nothing_else.is_none() {
                listeners.extend(here.first().cloned());
            }
            let port = listeners.first().and_then(|one| one.address.inet());
            let port = port.ok_or_else(|| self.unserved(to, transport))?.port();
            targets.push(Target { dial: Dial { host, port }, listeners });
        }
        Ok(targets)
    }

    /// The listeners for `to`, at least one.
    pub fn listening(&self, to: &To, transport: Transport) -> Result<&[Listening], Unserved> {
        let here = self.listening.get(&(to.site, to.port.clone(), transport));
        here.map(Vec::as_slice).ok_or_else(|| self.unserved(to, transport))
    }

    /// Whether whatever gets to one of `listeners` may.
    pub fn allows(&self, listeners: &[Listening]) -> bool {
        let allowed = |one: &Listening| {
            let Some(bound) = one.address.inet() else { return false };
            let at = |ip: &IpAddr| (SocketAddr::new(*ip, bound.port()), one.transport);
            one.dialled_as.iter().any(|ip| self.allowed.contains(&at(ip)))
        };
        listeners.iter().any(allowed)
    }

    /// Why there are fewer listeners for `to` than there should be, if so.
    pub fn absent(&self, to: &To, transport: Transport) -> impl Iterator<Item = &str> {
        let absent = self.absent.get(&(to.site, to.port.clone(), transport));
        absent.into_iter().flatten().map(String::as_str)
    }

    fn unserved(&self, to: &To, transport: Transport) -> Unserved {
        let absent = self.absent(to, transport).next().map(str::to_owned);
        let why = || format!("no witness at {} {transport}/{} on this backend", to.site, to.port);
        Unserved { why: absent.or_else(|| self.nothing_else.clone()).unwrap_or_else(why) }
    }
}

impl Listening {
    fn is_meant_by(&self, meant: &[IpAddr]) -> bool {
        self.dialled_as.iter().any(|address| meant.contains(address))
    }
}

/// The addresses that a spelling leads to, where it is known without asking anybody: literals, `localhost`, and the
/// unspecified addresses, which a client connects to its own loopback with.
fn meant_by(spelled: &str) -> Vec<IpAddr> {
    if spelled == "localhost" {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    let Ok(literal) = spelled.parse::<IpAddr>() else { return Vec::new() };
    let literal = match literal {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(literal, IpAddr::V4),
        IpAddr::V4(_) => literal,
    };
    vec![match literal {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopbacks() -> Sites {
        let mut sites = Sites::default();
        for (id, address) in [(1, "127.0.0.1:7"), (2, "127.0.0.2:7"), (3, "[::1]:7")] {
            let address: SocketAddr = address.parse().unwrap();
            let listening = Listening {
                key: 0,
                id,
                name: "real-loopback tcp/random".into(),
                transport: Transport::Tcp,
                address: address.into(),
                service: Service::Echo,
                dialled_as: vec![address.ip()],
                control: "real".into(),
                control_dials: address.into(),
            };
            sites.add(Site::RealLoopback, "random", Transport::Tcp, listening);
        }
        sites.lacks(Site::RealLoopback, "discard", Transport::Tcp, "taken".into());
        sites
    }

    fn to(port: &str, spelled: Option<&str>) -> To {
        To { site: Site::RealLoopback, port: port.into(), spelled: spelled.map(Into::into) }
    }

    fn ids(spelled: &str) -> Vec<u32> {
        let targets = loopbacks().targets(&to("random", Some(spelled)), Transport::Tcp).unwrap();
        targets[0].listeners.iter().map(|one| one.id).collect()
    }

    #[test]
    fn a_spelling_leads_to_the_listeners_that_would_see_it() {
        for (spelled, expected) in [
            ("127.0.0.1", &[1][..]),
            ("0.0.0.0", &[1]),
            ("::ffff:127.0.0.1", &[1]),
            ("127.0.0.2", &[2]),
            ("::1", &[3]),
            ("::", &[3]),
            ("localhost", &[1, 3]),
        ] {
            assert_eq!(ids(spelled), expected, "{spelled}");
        }
    }

    #[test]
    fn a_name_may_lead_to_any_of_the_sites_listeners() {
        assert_eq!(ids("host.docker.internal"), [1, 2, 3]);
    }

    #[test]
    fn without_a_spelling_every_address_is_a_target() {
        let targets = loopbacks().targets(&to("random", None), Transport::Tcp).unwrap();
        let hosts: Vec<_> = targets.into_iter().map(|target| target.dial.host).collect();
        assert_eq!(hosts, ["127.0.0.1", "127.0.0.2", "::1"]);
    }

    #[test]
    fn whoever_is_asked_for_a_name_the_resolver_behind_it_would_see_it() {
        let mut sites = Sites::default();
        for (id, address) in [(1, "203.0.113.53:53"), (2, "1.1.1.1:53")] {
            let address: SocketAddr = address.parse().unwrap();
            let listening = Listening {
                key: 0,
                id,
                name: "resolver udp/dns".into(),
                transport: Transport::Udp,
                address: address.into(),
                service: Service::Resolver,
                dialled_as: vec![address.ip()],
                control: "host".into(),
                control_dials: address.into(),
            };
            sites.add(Site::Resolver, "dns", Transport::Udp, listening);
        }
        for (spelled, expected) in [("127.0.0.53", 1), ("resolv.conf", 1), ("1.1.1.1", 2)] {
            let to = To { site: Site::Resolver, port: "dns".into(), spelled: Some(spelled.into()) };
            let targets = sites.targets(&to, Transport::Udp).unwrap();
            assert_eq!(targets[0].dial, Dial { host: spelled.into(), port: 53 });
            let ids: Vec<_> = targets[0].listeners.iter().map(|one| one.id).collect();
            assert_eq!(ids, [expected], "{spelled}");
        }
    }

    #[test]
    fn what_has_no_listener_says_why() {
        let sites = loopbacks();
        let why = |port, spelled, transport| {
            sites.targets(&to(port, spelled), transport).unwrap_err().why
        };
        assert_eq!(why("discard", None, Transport::Tcp), "taken");
        let none = "no witness at real-loopback udp/random on this backend";
        assert_eq!(why("random", None, Transport::Udp), none);
        assert!(why("random", Some("203.0.113.9"), Transport::Tcp).starts_with("no witness"));
    }
}
