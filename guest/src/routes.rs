//! Leaves one route in a net namespace: that to the bundle.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use claude_bottle_protocol::helper::Route;

use crate::failure::{Doing as _, Failure};
use crate::netlink::{self, Netlink};

/// `pin-routes [--look] AGENT BUNDLE`: removes every IPv4 route of the main table but the one to BUNDLE on the link,
/// which it adds if it is missing; with `--look` it only tells whether that is so. Refuses to touch a net namespace
/// that is not AGENT's: one that does not have that address.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (look, agent, bundle) = match words[..] {
        ["--look", agent, bundle] => (true, agent, bundle),
        [agent, bundle] => (false, agent, bundle),
        // Neither is an address.
        _ => (false, "", ""),
    };
    let (Ok(agent), Ok(bundle)) = (agent.parse(), bundle.parse()) else {
        eprintln!("toolbox: pin-routes [--look] AGENT BUNDLE");
        return ExitCode::from(2);
    };
    let done = check(agent).and_then(|()| if look { Ok(()) } else { pin(bundle) });
    match done.and_then(|()| verify(bundle)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("toolbox: pin-routes: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The namespace must be the one that is meant.
fn check(agent: Ipv4Addr) -> Result<(), Failure> {
    let trie =
        fs::read_to_string("/proc/self/net/fib_trie").doing(|| "read the addresses".into())?;
    let leaf = format!("|-- {agent}");
    let mut lines = trie.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line == leaf && lines.next() == Some("/32 host LOCAL") {
            return Ok(());
        }
    }
    Err(Failure::new(format!("{agent} is no address of this net namespace: it is left alone")))
}

fn routes() -> Result<Vec<Route>, Failure> {
    let table = fs::read_to_string("/proc/self/net/route").doing(|| "read the routes".into())?;
    table
        .lines()
        .skip(1)
        .map(|line| {
            parse(line).ok_or_else(|| Failure::new(format!("understand the route {line:?}")))
        })
        .collect()
}

/// `eth0 0100C80A 00000000 0005 0 0 0 FFFFFFFF …`, in this machine's byte order.
fn parse(line: &str) -> Option<Route> {
    let words: Vec<_> = line.split_whitespace().collect();
    let bits = |index: usize| u32::from_str_radix(words.get(index)?, 16).ok();
    let address = |bits: u32| Ipv4Addr::from(bits.to_ne_bytes());
    let via = address(bits(2)?);
    Some(Route {
        destination: IpAddr::V4(address(bits(1)?)),
        prefix: u8::try_from(bits(7)?.count_ones()).ok()?,
        via: (!via.is_unspecified()).then_some(IpAddr::V4(via)),
        interface: (*words.first()?).to_owned(),
    })
}

fn is_the_one(route: &Route, bundle: Ipv4Addr) -> bool {
    route.destination == IpAddr::V4(bundle) && route.prefix == 32 && route.via.is_none()
}

fn pin(bundle: Ipv4Addr) -> Result<(), Failure> {
    let routes = routes()?;
    let index = |interface: &str| {
        nix::net::if_::if_nametoindex(interface).doing(|| format!("find {interface}"))
    };
    let mut requests = Vec::new();
    if !routes.iter().any(|route| is_the_one(route, bundle)) {
        let near = routes.iter().find(|route| route.via.is_none() && holds(route, bundle));
        let near = near.ok_or_else(|| Failure::new(format!("find the interface of {bundle}")))?;
        let (destination, interface) = (IpAddr::V4(bundle), near.interface.clone());
        let route = Route { destination, prefix: 32, via: None, interface };
        requests.push(netlink::route(index(&route.interface)?, &route));
    }
    for route in routes.iter().filter(|route| !is_the_one(route, bundle)) {
        requests.push(netlink::no_route(index(&route.interface)?, route));
    }
    Netlink::open()?.apply(requests)
}

fn holds(route: &Route, address: Ipv4Addr) -> bool {
    let IpAddr::V4(net) = route.destination else { return false };
    let mask = u32::MAX.checked_shl(32 - u32::from(route.prefix)).unwrap_or(0);
    u32::from(net) & mask == u32::from(address) & mask
}

/// One route, and no IPv6 beside loopback's.
fn verify(bundle: Ipv4Addr) -> Result<(), Failure> {
    let routes = routes()?;
    if let Some(other) = routes.iter().find(|route| !is_the_one(route, bundle)) {
        return Err(Failure::new(format!("there is another route: {other:?}")));
    }
    if routes.is_empty() {
        return Err(Failure::new("there is no route at all"));
    }
    // Absent where the kernel has no IPv6.
    let v6 = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    match v6.lines().find(|line| !line.ends_with(" lo")) {
        Some(line) => Err(Failure::new(format!("there is IPv6: {line}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_understood() {
        let near = parse("eth0 0000D20A 00000000 0001 0 0 0 F0FFFFFF 0 0 0").unwrap();
        assert_eq!((near.prefix, near.via), (28, None));
        let bundle = Ipv4Addr::new(10, 210, 0, 2);
        assert!(holds(&near, bundle) && !is_the_one(&near, bundle));
        assert!(!holds(&near, Ipv4Addr::new(10, 210, 0, 16)));
        let default = parse("eth0 00000000 0100D20A 0003 0 0 0 00000000 0 0 0").unwrap();
        assert_eq!(default.via, Some(IpAddr::V4(Ipv4Addr::new(10, 210, 0, 1))));
        assert!(holds(&default, bundle));
        let one = parse("eth0 0200D20A 00000000 0005 0 0 0 FFFFFFFF 0 0 0").unwrap();
        assert!(is_the_one(&one, bundle));
        assert_eq!(parse("rubbish"), None);
    }
}
