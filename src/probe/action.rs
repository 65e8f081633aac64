//! What the prober does: for each method, and for the control of each listener.

use claude_bottle_protocol::prober::{
    Action, Asks, Inherited, Lookup, Paths, Proxied, Request, Server, Target,
};
use claude_bottle_protocol::witness::{ABSTRACT_PREFIX, Service, Transport};

use super::definition::{AttemptDefinition, Expect, HttpRequest, Method, To};
use crate::lab::{Address, Listening, Sites, Unserved};

/// How a definition spells "whomever the bottle is configured to ask".
const CONFIGURED: &str = "resolv.conf";
/// How the names go on that are looked up. `.test` is nobody's (RFC 6761 §6.2): no real resolver would ask further.
const LOOKED_UP: &str = "lab.test";
/// Below this name the canary resolver changes its mind after the first answer.
const REBINDING: &str = "rebind.test";
/// Where metadata services listen.
const HTTP_PORT: u16 = 80;

/// What is tried, for a reader; what the prober does; who would see it.
pub(super) type Made = (String, Action, Vec<Listening>);

/// The attempts of `definition`, whose method has a target, to `to`.
pub(super) fn made(
    definition: &AttemptDefinition,
    to: &To,
    sites: &Sites,
) -> Result<Vec<Made>, Unserved> {
    let method = definition.method;
    let place = format!("{} to {}:{}", means(definition), to.site, to.port);
    match method {
        Method::Http => {
            let wanted = definition.request.clone().unwrap_or_default();
            let targets = sites.targets(to, Transport::Tcp)?.into_iter();
            let one = |target: crate::lab::Target| {
                let what = format!("{place} as {}", target.dial.host);
                (what, http(target.dial, &wanted), target.listeners)
            };
            Ok(targets.map(one).collect())
        }
        Method::HttpConnect
        | Method::HttpGet
        | Method::ForeignSni
        | Method::ForeignHost
        | Method::SmuggledRequest => by_gateway(&place, definition, to, sites),
        Method::UnixAbstract => abstract_sockets(&place, to, sites),
        Method::UnixPath => path_sockets(place, to, sites),
        Method::Vsock => vsock_ports(&place, to, sites),
        _ => {
            let targets = sites.targets(to, transport(method))?.into_iter();
            let one = |target: crate::lab::Target| {
                let what = format!("{place} as {}", target.dial.host);
                (what, action(method, target.dial, sites), target.listeners)
            };
            Ok(targets.map(one).collect())
        }
    }
}

/// How it is done, for a reader; the method's word comes first.
pub(super) fn means(definition: &AttemptDefinition) -> String {
    let AttemptDefinition { method, request, .. } = definition;
    match request {
        Some(HttpRequest { line, .. }) => format!("{method} {line}"),
        None => method.to_string(),
    }
}

fn http(target: Target, HttpRequest { line, headers }: &HttpRequest) -> Action {
    Action::Http(Request { target, line: line.clone(), headers: headers.clone() })
}

/// What a method's listeners listen with.
pub(super) fn transport(method: Method) -> Transport {
    match method {
        Method::Udp
        | Method::Multicast
        | Method::UdpUnconnected
        | Method::RawUdp
        | Method::StealSocket
        | Method::DnsUdp
        | Method::Rebind
        | Method::InheritedUdp => Transport::Udp,
        Method::PingSocket | Method::RawIcmp => Transport::Icmp,
        Method::Frame | Method::UringFrame | Method::Frame32 | Method::ForgedArp => {
            Transport::Packet
        }
        Method::UnixAbstract | Method::UnixPath => Transport::Unix,
        Method::Vsock => Transport::Vsock,
        _ => Transport::Tcp,
    }
}

/// What the prober does to get to `target`.
fn action(method: Method, target: Target, sites: &Sites) -> Action {
    let inherited = |target| Inherited { target, namespaces: sites.namespaces.clone() };
    match method {
        Method::Tcp => Action::Tcp(target),
        Method::Udp => Action::Udp(target),
        Method::TcpFastOpen => Action::TcpFastOpen(target),
        Method::Mptcp => Action::Mptcp(target),
        Method::UdpUnconnected => Action::UdpUnconnected(target),
        Method::Multicast => Action::Multicast(target),
        Method::PingSocket => Action::PingSocket(target),
        Method::RawIcmp => Action::RawIcmp(target),
        Method::RawUdp => Action::RawUdp(target),
        Method::Frame => Action::Frame(target),
        Method::UringFrame => Action::UringFrame(target),
        Method::Frame32 => Action::Frame32(target),
        Method::ForgedArp => Action::ForgedArp(target),
        Method::EnterNamespace => Action::EnterNamespace(target),
        Method::StealSocket => Action::StealSocket(target),
        Method::DnsUdp => Action::DnsUdp(lookup(target)),
        Method::DnsTcp => Action::DnsTcp(lookup(target)),
        Method::Rebind => Action::DnsUdp(Lookup {
            below: REBINDING.into(),
            then_connect: Some(HTTP_PORT),
            ..lookup(target)
        }),
        Method::InheritedTcp => Action::InheritedTcp(inherited(target)),
        Method::InheritedUdp => Action::InheritedUdp(inherited(target)),
        Method::EstablishedTcp => Action::EstablishedTcp(inherited(target)),
        _ => unreachable!("goes nowhere, as the parser has checked"),
    }
}

fn lookup(target: Target) -> Lookup {
    let server = if target.host == CONFIGURED { Server::Configured } else { Server::At(target) };
    Lookup { server, below: LOOKED_UP.into(), then_connect: None }
}

/// One attempt for each spelling, said to the gateway. Where that is to refuse it, the same way of asking has to get an allowed
/// name's nonce to a witness from elsewhere.
fn by_gateway(
    place: &str,
    definition: &AttemptDefinition,
    to: &To,
    sites: &Sites,
) -> Result<Vec<Made>, Unserved> {
    let targets = sites.targets(to, Transport::Tcp)?;
    let proxy = sites.proxy.as_ref();
    let proxy =
        proxy.ok_or_else(|| Unserved { why: "no real gateway stands in this lab".into() })?;
    let address = proxy.address;
    let asks = match definition.method {
        Method::HttpGet => Asks::Get,
        Method::ForeignSni => Asks::ForeignSni,
        Method::ForeignHost => Asks::ForeignHost,
        Method::SmuggledRequest => Asks::Smuggled,
        _ => Asks::Connect,
    };
    // What is to be reached is its own control.
    let control = match (definition.expect, asks) {
        (Expect::Reached, _) => None,
        (_, Asks::Connect | Asks::ForeignSni) => sites.gateway_controls.get(&Asks::Connect),
        (_, Asks::Get | Asks::ForeignHost | Asks::Smuggled) => {
            sites.gateway_controls.get(&Asks::Get)
        }
    };
    let one = |mut target: crate::lab::Target| {
        target.listeners.extend(control.cloned());
        let what = format!("{place} as {}", target.dial.host);
        let action = Action::Proxied(Proxied {
            proxy: Target { host: address.ip().to_string(), port: address.port() },
            asks,
            target: target.dial,
            allowed: proxy.allowed.clone(),
        });
        (what, action, target.listeners)
    };
    Ok(targets.into_iter().map(one).collect())
}

/// One attempt for each abstract socket.
fn abstract_sockets(place: &str, to: &To, sites: &Sites) -> Result<Vec<Made>, Unserved> {
    let one = |listening: &Listening| match &listening.address {
        Address::Abstract(name) => {
            // Without the nonce that makes it unique: a reader, and another run, know it by its beginning.
            let what = format!("{place} as @{ABSTRACT_PREFIX}…");
            Some((what, Action::UnixAbstract(name.clone()), vec![listening.clone()]))
        }
        Address::Inet(_) | Address::File { .. } | Address::Vsock(_) | Address::Gateway(_) => None,
    };
    Ok(sites.listening(to, Transport::Unix)?.iter().filter_map(one).collect())
}

/// One attempt for each port of the vsock loopback.
fn vsock_ports(place: &str, to: &To, sites: &Sites) -> Result<Vec<Made>, Unserved> {
    let one = |listening: &Listening| match &listening.address {
        Address::Vsock(port) => {
            Some((place.to_owned(), Action::Vsock(*port), vec![listening.clone()]))
        }
        Address::Inet(_) | Address::Abstract(_) | Address::File { .. } | Address::Gateway(_) => {
            None
        }
    };
    Ok(sites.listening(to, Transport::Vsock)?.iter().filter_map(one).collect())
}

/// One attempt for all sockets that may be found in the file system.
fn path_sockets(place: String, to: &To, sites: &Sites) -> Result<Vec<Made>, Unserved> {
    let here = sites.listening(to, Transport::Unix)?;
    let ours = here.iter().filter_map(|one| match &one.address {
        Address::File { file, .. } => Some(*file),
        Address::Inet(_) | Address::Abstract(_) | Address::Vsock(_) | Address::Gateway(_) => None,
    });
    let paths = Paths { paths: Vec::new(), ours: ours.collect() };
    Ok(vec![(place, Action::UnixPath(paths), here.to_vec())])
}

/// What the control of a listener does: what an ordinary client would.
pub(super) fn control(listening: &Listening) -> Action {
    let address = match &listening.control_dials {
        Address::Inet(address) => *address,
        Address::Abstract(name) => return Action::UnixAbstract(name.clone()),
        Address::Vsock(port) => return Action::Vsock(*port),
        Address::Gateway(asked) => return Action::Proxied(asked.clone()),
        Address::File { path, file } => {
            return Action::UnixPath(Paths { paths: vec![path.clone()], ours: vec![*file] });
        }
    };
    let target = Target { host: address.ip().to_string(), port: address.port() };
    match (listening.transport, listening.service) {
        (Transport::Udp, Service::Resolver) => Action::DnsUdp(lookup(target)),
        (Transport::Tcp, Service::Resolver) => Action::DnsTcp(lookup(target)),
        (Transport::Udp, Service::Segment) => Action::Multicast(target),
        (Transport::Tcp, Service::Http) => http(target, &HttpRequest::default()),
        (Transport::Udp, Service::Echo | Service::Http) => Action::Udp(target),
        (Transport::Icmp, _) => Action::RawIcmp(target),
        (Transport::Packet, _) => Action::Frame(target),
        (Transport::Tcp | Transport::Unix | Transport::Vsock, _) => Action::Tcp(target),
    }
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::prober::SocketFile;

    use super::*;
    use crate::probe::definition::Site;

    const FILE: SocketFile = SocketFile { device: 1, inode: 2 };

    fn listening(transport: Transport, service: Service, address: Address) -> Listening {
        Listening {
            key: 0,
            id: 1,
            name: "here".into(),
            transport,
            service,
            dialled_as: address.inet().map(|address| address.ip()).into_iter().collect(),
            control: "host".into(),
            control_dials: address.clone(),
            address,
        }
    }

    fn by(method: Method) -> AttemptDefinition {
        let (expect, request) = (Expect::Contained, None);
        AttemptDefinition { method, to: None, request, expect, how: vec![], only_on: vec![] }
    }

    fn to(site: Site, port: &str, spelled: Option<&str>) -> To {
        To { site, port: port.into(), spelled: spelled.map(Into::into) }
    }

    #[test]
    fn a_control_asks_a_resolver_for_a_name_and_sends_everybody_else_the_nonce() {
        let address = || Address::Inet("203.0.113.53:53".parse().unwrap());
        let target = || Target { host: "203.0.113.53".into(), port: 53 };
        let file = Address::File { path: "/sys/bus".into(), file: FILE };
        let paths = Paths { paths: vec!["/sys/bus".into()], ours: vec![FILE] };
        for (transport, service, address, expected) in [
            (Transport::Udp, Service::Resolver, address(), Action::DnsUdp(lookup(target()))),
            (Transport::Tcp, Service::Resolver, address(), Action::DnsTcp(lookup(target()))),
            (Transport::Udp, Service::Echo, address(), Action::Udp(target())),
            (Transport::Tcp, Service::Echo, address(), Action::Tcp(target())),
            (Transport::Unix, Service::Echo, file, Action::UnixPath(paths)),
        ] {
            assert_eq!(control(&listening(transport, service, address)), expected);
        }
    }

    #[test]
    fn sockets_in_the_file_system_are_looked_for_all_at_once() {
        let mut sites = Sites::default();
        for path in ["/sys/bus", "/sys/docker.sock"] {
            let address = Address::File { path: path.into(), file: FILE };
            let one = listening(Transport::Unix, Service::Echo, address);
            sites.add(Site::HostSockets, "path", Transport::Unix, one);
        }
        let to = to(Site::HostSockets, "path", None);
        let made = made(&by(Method::UnixPath), &to, &sites).unwrap();
        let [(what, action, listeners)] = &made[..] else { panic!("one attempt: {made:?}") };
        assert_eq!((what.as_str(), listeners.len()), ("unix-path to host-sockets:path", 2));
        let paths = Paths { paths: Vec::new(), ours: vec![FILE, FILE] };
        assert_eq!(action, &Action::UnixPath(paths));
    }

    #[test]
    fn the_configured_resolver_is_the_bottles_own_to_find() {
        let mut sites = Sites::default();
        let address = Address::Inet("203.0.113.53:53".parse().unwrap());
        let canary = listening(Transport::Udp, Service::Resolver, address);
        sites.add(Site::Resolver, "dns", Transport::Udp, canary);
        let ask = |spelled| {
            let to = to(Site::Resolver, "dns", Some(spelled));
            match &made(&by(Method::DnsUdp), &to, &sites).unwrap()[..] {
                [(_, Action::DnsUdp(lookup), _)] => lookup.server.clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ask("resolv.conf"), Server::Configured);
        assert_eq!(ask("127.0.0.11"), Server::At(Target { host: "127.0.0.11".into(), port: 53 }));
    }
}
