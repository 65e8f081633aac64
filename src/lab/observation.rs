//! A bottle's network as it looks from outside: what `/proc/PID/net` tells, parsed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

/// What was seen of a net namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// Interfaces, `lo` included, sorted.
    pub interfaces: Vec<String>,
    /// IPv4 routes of the main table: destination, next hop (0.0.0.0: on the link), interface.
    pub routes: Vec<(IpNet, IpAddr, String)>,
    /// IPv6 addresses and their interface.
    pub addresses_v6: Vec<(Ipv6Addr, String)>,
    /// Listening TCP sockets and bound UDP ones.
    pub listening: Vec<Socket>,
}

/// A bound socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Socket {
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// Where it is bound.
    pub address: SocketAddr,
}

/// `TCP_LISTEN` in `/proc/net/tcp` (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";
/// `TCP_CLOSE`: what an unconnected UDP socket's state is shown as.
const UNCONNECTED: &str = "07";

impl Observation {
    /// Parses the content of files below `/proc/PID/net`, by file name. Lines that are not understood are left out.
    pub fn parse(files: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| files.get(name).map(String::as_str).unwrap_or_default();
        let mut interfaces: Vec<_> = text("dev")
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect();
        interfaces.sort();
        let mut listening: Vec<_> =
            [("tcp", LISTEN), ("tcp6", LISTEN), ("udp", UNCONNECTED), ("udp6", UNCONNECTED)]
                .into_iter()
                .flat_map(|(file, state)| {
                    let transport = if file.starts_with("tcp") { "tcp" } else { "udp" };
                    text(file).lines().filter_map(move |line| socket(line, transport, state))
                })
                .collect();
        listening.sort();
        Self {
            interfaces,
            routes: text("route").lines().skip(1).filter_map(route).collect(),
            addresses_v6: text("if_inet6").lines().filter_map(address_v6).collect(),
            listening,
        }
    }
}

/// `lo 0000007F 00000000 0001 0 0 0 000000FF …`: addresses as the kernel holds them, in this host's byte order.
fn route(line: &str) -> Option<(IpNet, IpAddr, String)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let address = |word: &str| {
        let bits = u32::from_str_radix(word, 16).ok()?;
        Some(Ipv4Addr::from(bits.to_ne_bytes()))
    };
    let [interface, destination, gateway, ..] = words[..] else { return None };
    let net = Ipv4Net::with_netmask(address(destination)?, address(words.get(7)?)?).ok()?;
    Some((net.into(), address(gateway)?.into(), interface.to_owned()))
}

/// `fe80…0001 02 40 20 80 eth0`.
fn address_v6(line: &str) -> Option<(Ipv6Addr, String)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let bits = u128::from_str_radix(words.first()?, 16).ok()?;
    Some((Ipv6Addr::from(bits), (*words.get(5)?).to_owned()))
}

/// `0: 0100007F:238C 00000000:0000 0A …`.
fn socket(line: &str, transport: &'static str, state: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (ip, port) = words.next()?.split_once(':')?;
    if words.nth(1)? != state {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip: IpAddr = if ip.len() == 8 {
        Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes()).into()
    } else {
        let mut bytes = [0; 16];
        for (index, word) in bytes.chunks_exact_mut(4).enumerate() {
            let digits = ip.get(8 * index..8 * index + 8)?;
            word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).into()
    };
    Some(Socket { transport, address: SocketAddr::new(ip, port) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_tables_are_understood() {
        let files = [
            ("dev", "Inter-| Receive\n face |bytes\n  eth0: 1 2\n    lo: 1 2\n"),
            (
                "route",
                "Iface\tDestination\neth0\t0100C80A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n",
            ),
            ("if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n"),
            (
                "tcp",
                "  sl  local\n   0: 0100007F:238C 00000000:0000 0A 0\n   1: 0100007F:238D 00000000:0000 01 0\n",
            ),
            (
                "udp6",
                "  sl  local\n  12: 00000000000000000000000001000000:0035 0:0 07 0\nrubbish\n",
            ),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let seen = Observation::parse(&files);
        assert_eq!(seen.interfaces, ["eth0", "lo"]);
        let route = ("10.200.0.1/32".parse().unwrap(), "0.0.0.0".parse().unwrap(), "eth0".into());
        assert_eq!(seen.routes, [route]);
        assert_eq!(seen.addresses_v6, [(Ipv6Addr::LOCALHOST, "lo".to_owned())]);
        let listening: Vec<_> = seen.listening.iter().map(|s| s.address.to_string()).collect();
        assert_eq!(listening, ["127.0.0.1:9100", "[::1]:53"]);
        assert_eq!(Observation::parse(&BTreeMap::new()), Observation::default());
    }
}
