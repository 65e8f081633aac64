//! Addresses that are not the internet's: a name that leads to one leads into somebody's network.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

/// Special-purpose addresses (the registries of RFC 6890), and those that carry an IPv4 address within an IPv6 one.
static INTERNAL: LazyLock<Vec<(IpNet, &'static str)>> = LazyLock::new(|| {
    let ranges = [
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a provider"),
        ("127.0.0.0/8", "loopback"),
        // Of the internet's addresses by its number, and of Azure's hosts by what answers there.
        ("168.63.129.16/32", "metadata"),
        ("169.254.0.0/16", "link-local, metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.88.99.0/24", "6to4 relays"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarks"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/96", "unspecified, loopback, IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discard"),
        ("2001::/32", "Teredo"),
        ("2002::/16", "6to4"),
        ("fc00::/7", "private, metadata"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    ];
    ranges.into_iter().filter_map(|(net, what)| Some((net.parse().ok()?, what))).collect()
});

/// What an address is, if it is not the internet's.
pub(crate) fn internal(ip: IpAddr) -> Option<&'static str> {
    let ip = ip.to_canonical();
    INTERNAL.iter().find(|(net, _)| net.contains(&ip)).map(|(_, what)| *what)
}

/// Whether all of `net` lies within one of these ranges: whoever writes it means that range.
pub(crate) fn is_within_internal(net: &IpNet) -> bool {
    INTERNAL.iter().any(|(range, _)| range.contains(net))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_one() {
        assert_eq!(INTERNAL.len(), 25);
    }

    #[test]
    fn what_is_not_the_internets_is_told() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.100.100.200",
            "168.63.129.16",
            "169.254.169.254",
            "192.0.0.192",
            "198.19.0.1",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2001::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::fb",
        ] {
            assert!(internal(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "203.0.113.10",
            "2606:4700::1111",
            "2001:db8::1",
        ] {
            assert_eq!(internal(text.parse().unwrap()), None, "{text}");
        }
    }
}
