//! The one route of a pinned net namespace: that to the bundle.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use claude_bottle_protocol::helper::Route;

use crate::failure::{Doing as _, Failure};
use crate::netlink::{self, Netlink};

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

fn is_the_one(route: &Route, peer: Ipv4Addr) -> bool {
    route.destination == IpAddr::V4(peer) && route.prefix == 32 && route.via.is_none()
}

/// The interface that leads to the bundle.
pub(super) fn interface(bundle: Ipv4Addr) -> Result<String, Failure> {
    let routes = routes()?;
    let near = routes.iter().find(|route| route.via.is_none() && holds(route, bundle));
    let near = near.ok_or_else(|| Failure::new(format!("there is no route to {bundle}")))?;
    Ok(near.interface.clone())
}

/// Leaves the routes to these addresses, on the link.
pub(super) fn pin(peers: &[Ipv4Addr], interface: &str) -> Result<(), Failure> {
    let routes = routes()?;
    let index = |interface: &str| {
        nix::net::if_::if_nametoindex(interface).doing(|| format!("find {interface}"))
    };
    let mut requests = Vec::new();
    for peer in peers.iter().filter(|peer| !routes.iter().any(|route| is_the_one(route, **peer))) {
        let (destination, interface) = (IpAddr::V4(*peer), interface.to_owned());
        let route = Route { destination, prefix: 32, via: None, interface };
        requests.push(netlink::route(index(&route.interface)?, &route));
    }
    for route in routes.iter().filter(|route| !is_wanted(route, peers)) {
        requests.push(netlink::no_route(index(&route.interface)?, route));
    }
    Netlink::open()?.apply(requests)
}

fn is_wanted(route: &Route, peers: &[Ipv4Addr]) -> bool {
    peers.iter().any(|peer| is_the_one(route, *peer))
}

fn holds(route: &Route, address: Ipv4Addr) -> bool {
    let IpAddr::V4(net) = route.destination else { return false };
    let mask = u32::MAX.checked_shl(32 - u32::from(route.prefix)).unwrap_or(0);
    u32::from(net) & mask == u32::from(address) & mask
}

/// A route to each of these addresses, and no other.
pub(super) fn verify(peers: &[Ipv4Addr]) -> Result<(), Failure> {
    let routes = routes()?;
    if let Some(other) = routes.iter().find(|route| !is_wanted(route, peers)) {
        let Route { destination, prefix, via, interface } = other;
        let via = via.map_or_else(String::new, |via| format!(" by {via}"));
        let why = format!("there is another route: {destination}/{prefix}{via} on {interface}");
        return Err(Failure::new(why));
    }
    let is_there = |peer: &&Ipv4Addr| routes.iter().any(|route| is_the_one(route, **peer));
    match peers.iter().find(|peer| !is_there(peer)) {
        Some(peer) => Err(Failure::new(format!("there is no route to {peer}"))),
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
