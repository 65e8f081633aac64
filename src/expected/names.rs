//! What a bottle's client makes of the host that it is told to dial.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use claude_bottle_protocol::helper::Bottle;

/// The addresses, in the order in which they are tried; empty if the bottle has none for this name.
pub(super) fn resolve(host: &str, bottle: &Bottle) -> Vec<IpAddr> {
    let bare = bare(host);
    if let Some(ip) = literal(host) {
        return vec![connects_to(ip)];
    }
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    bottle.hosts.iter().filter(|(_, known)| *known == name).map(|(ip, _)| *ip).collect()
}

/// The address that a literal in any spelling means, brackets around it or not.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let bare = bare(host);
    bare.parse().ok().or_else(|| classful(bare).map(IpAddr::V4))
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Where the kernel goes for an address: the unspecified ones are loopback, mapped ones are IPv4.
fn connects_to(ip: IpAddr) -> IpAddr {
    let ip = ip.to_canonical();
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// `127.1`, `0x7f.1`, `017700000001`: one to four numbers, the last of which fills what is left (`inet_aton(3)`).
fn classful(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| {
        let part = part.to_ascii_lowercase();
        if !part.chars().all(|c| c.is_ascii_alphanumeric()) {
            return None;
        }
        match part.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None if part.len() > 1 && part.starts_with('0') => u64::from_str_radix(&part, 8).ok(),
            None => part.parse().ok(),
        }
    };
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last()?;
    let free = 4_usize.checked_sub(bytes.len()).filter(|free| *free > 0)?;
    let mut value = u32::try_from(*last).ok().filter(|v| u64::from(*v) < 1 << (8 * free))?;
    for (index, byte) in bytes.iter().enumerate() {
        value |= u32::from(u8::try_from(*byte).ok()?) << (24 - 8 * index);
    }
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::super::network::tests::bottle;
    use super::*;

    fn resolved(host: &str) -> Vec<String> {
        let mut bottle = bottle("in");
        bottle.hosts = vec![("10.0.0.1".parse().unwrap(), "bundle".to_owned())];
        resolve(host, &bottle).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_spelling_of_loopback_is_loopback() {
        let spellings = [
            "127.0.0.1",
            "127.1",
            "0",
            "0.0.0.0",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "2130706433",
            "0x7f.1",
            "017700000001",
        ];
        for spelled in spellings {
            assert_eq!(resolved(spelled), ["127.0.0.1"], "{spelled}");
        }
        for spelled in ["::", "[::1]", "0:0:0:0:0:0:0:1"] {
            assert_eq!(resolved(spelled), ["::1"], "{spelled}");
        }
        assert_eq!(resolved("localhost."), ["127.0.0.1", "::1"]);
    }

    #[test]
    fn a_name_is_in_the_bottles_hosts_or_nowhere() {
        assert_eq!(resolved("Bundle"), ["10.0.0.1"]);
        for name in ["example.org", "1.2.3.4.5", "256.0.0.1", "08", "0x", "1..2", "+1"] {
            assert_eq!(resolved(name), [] as [&str; 0], "{name}");
        }
    }
}
