//! From what a client is told to dial to addresses: every spelling of a literal, and names without a resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrLike};

/// An address for a system call, no longer than those of its family. Linux takes longer ones; a kernel that passes its sockets'
/// calls on need not (smolvm's TSI: `EINVAL`), and then every attempt would look like one without a route.
pub(super) fn exact(address: SocketAddr) -> Box<dyn SockaddrLike> {
    match address {
        SocketAddr::V4(v4) => Box::new(SockaddrIn::from(v4)),
        SocketAddr::V6(v6) => Box::new(SockaddrIn6::from(v6)),
    }
}

/// The addresses that `host` means in this bottle, in the order in which a client tries them; empty if it has none.
///
/// Literals first (RFC 4291 for IPv6, `inet_aton(3)` for IPv4 with all its short, octal and hexadecimal forms), then
/// `/etc/hosts`, then `localhost` and everything below it (RFC 6761 §6.3). Nothing is asked over the network.
pub(crate) fn resolve(host: &str) -> Vec<IpAddr> {
    resolve_with(host, &std::fs::read_to_string("/etc/hosts").unwrap_or_default())
}

fn resolve_with(host: &str, hosts: &str) -> Vec<IpAddr> {
    if let Some(literal) = literal(host) {
        return vec![literal];
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let mut addresses = in_hosts(&name, hosts);
    if addresses.is_empty() && (name == "localhost" || name.ends_with(".localhost")) {
        addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    addresses
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().or_else(|| inet_aton(bare).map(IpAddr::V4))
}

/// One to four parts; the last fills all bytes that are left. `0x` is hexadecimal, a leading `0` octal.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(inet_part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let left = 32 - 8 * first.len();
    if left < 32 && *last >= 1 << left {
        return None;
    }
    let mut bits = *last;
    for (index, part) in first.iter().enumerate() {
        bits |= part << (24 - 8 * index);
    }
    Some(Ipv4Addr::from(bits))
}

fn inet_part(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

fn in_hosts(name: &str, hosts: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_as_long_as_its_family_has_it() {
        for (address, length) in [("127.0.0.1:9", 16), ("[::1]:9", 28)] {
            assert_eq!(exact(address.parse().unwrap()).len(), length, "{address}");
        }
    }

    #[test]
    fn every_spelling_of_loopback_is_understood() {
        for spelling in
            ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.1", "017700000001"]
        {
            assert_eq!(resolve_with(spelling, ""), [Ipv4Addr::LOCALHOST], "{spelling}");
        }
        assert_eq!(resolve_with("[::1]", ""), [Ipv6Addr::LOCALHOST]);
        assert_eq!(resolve_with("0", ""), [Ipv4Addr::UNSPECIFIED]);
        assert_eq!(resolve_with("::ffff:127.0.0.1", "")[0].to_string(), "::ffff:127.0.0.1");
    }

    #[test]
    fn what_is_no_address_is_a_name() {
        for name in
            ["", ".", "1.2.3.4.5", "256.1.1.1", "1.16777216", "4294967296", "0x", "08", "+1"]
        {
            assert_eq!(resolve_with(name, ""), [] as [IpAddr; 0], "{name}");
        }
    }

    #[test]
    fn hosts_come_before_the_rule_for_localhost() {
        let hosts = "127.0.0.1 other # localhost\n10.0.0.7\tBundle pipelock\n10.0.0.7 bundle\n";
        assert_eq!(resolve_with("bundle.", hosts), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(resolve_with("localhost", hosts).len(), 2, "named in a comment only");
        assert_eq!(resolve_with("localhost", "127.0.0.3 localhost").len(), 1);
        assert_eq!(resolve_with("a.localhost", hosts).len(), 2);
        assert_eq!(resolve_with("unknown", hosts), [] as [IpAddr; 0]);
    }
}
