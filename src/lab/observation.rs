//! A bottle's network as it looks from outside: what `/proc/PID/net` tells, parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use claude_bottle_protocol::helper::{FIREWALL, LISTENING, SOCKETS, STRAYS};
use claude_bottle_protocol::prober::Change;
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

/// What was seen of a net namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// Interfaces, `lo` included, sorted.
    pub interfaces: Vec<String>,
    /// IPv4 routes of the main table: destination, next hop (0.0.0.0: on the link), interface.
    pub routes: Vec<(IpNet, IpAddr, String)>,
    /// IPv4 addresses.
    pub addresses_v4: Vec<Ipv4Addr>,
    /// IPv6 addresses and their interface.
    pub addresses_v6: Vec<(Ipv6Addr, String)>,
    /// Listening TCP sockets and bound UDP ones.
    pub listening: Vec<Socket>,
    /// The packet filter's tables; none where they could not be read.
    pub firewall: Option<Vec<String>>,
    /// Processes in net namespaces that nobody made for them, wherever they are below the lab; none where they could not
    /// be seen.
    pub strays: Option<Vec<String>>,
    /// The sockets that processes in it hold, as far as they can be seen: the process, and what the kernel calls the protocol.
    pub held: Vec<(String, String)>,
}

/// What the kernel calls the protocols of sockets that a net namespace holds, versions for IPv6 left out.
const HELD_BY_NETS: &[&str] = &[
    "TCP",
    "UDP",
    "UDP-Lite",
    "UDPLITE",
    "MPTCP",
    "PING",
    "RAW",
    "UNIX",
    "UNIX-STREAM",
    "NETLINK",
    "PACKET",
];

/// A bound socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Socket {
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// Where it is bound.
    pub address: SocketAddr,
}

impl Observation {
    /// The part that `change` is about, in words; none where it could not be read.
    pub fn part(&self, change: Change) -> Option<String> {
        let Self { interfaces, addresses_v4, addresses_v6, routes, firewall, .. } = self;
        match change {
            Change::Address => Some(format!("addresses {addresses_v4:?} {addresses_v6:?}")),
            Change::Route => Some(format!("routes {routes:?}")),
            Change::Link => Some(format!("interfaces {interfaces:?}")),
            Change::Firewall => firewall.as_ref().map(|tables| format!("tables {tables:?}")),
        }
    }

    /// What the part that `change` is about has become, in words; none if it is as it was before. Other parts do not count:
    /// an attempt of its own changes each, which would be evidence against all of them.
    pub fn change_since(&self, before: &Self, change: Change) -> Option<String> {
        let (now, was) = (self.part(change)?, before.part(change)?);
        (now != was).then(|| format!("now {now}"))
    }

    /// Whether an interface that was there before is gone, and nothing is new: what a network looks like whose bottle has ended.
    pub fn has_lost_since(&self, before: &Self) -> bool {
        fn within<T: PartialEq>(now: &[T], before: &[T]) -> bool {
            now.iter().all(|one| before.contains(one))
        }
        let nothing_new = within(&self.interfaces, &before.interfaces)
            && within(&self.addresses_v4, &before.addresses_v4)
            && within(&self.addresses_v6, &before.addresses_v6)
            && within(&self.routes, &before.routes);
        nothing_new && self.interfaces != before.interfaces
    }

    /// Processes that are astray now and were not before, in words.
    pub fn new_strays_since(&self, before: &Self) -> Option<String> {
        let (now, before) = (self.strays.as_ref()?, before.strays.as_ref()?);
        now.iter().find(|stray| !before.contains(stray)).cloned()
    }

    /// Listening sockets that whoever reaches this network may get to, but for those on `planned` ports, in words.
    pub fn unplanned_listeners(&self, planned: &BTreeSet<u16>) -> Option<String> {
        let stray = |socket: &&Socket| {
            let Socket { address, .. } = socket;
            !address.ip().is_loopback() && !planned.contains(&address.port())
        };
        let strays = self.listening.iter().filter(stray);
        let strays: Vec<_> = strays.map(|s| format!("{} {}", s.transport, s.address)).collect();
        (!strays.is_empty()).then(|| strays.join(", "))
    }

    /// Whether a process is seen to hold an internet socket.
    pub fn holds_ordinary(&self) -> bool {
        self.held.iter().any(|(_, protocol)| protocol == "UDP")
    }

    /// Sockets that processes hold and net namespaces do not, in words.
    pub fn foreign_sockets(&self) -> Option<String> {
        let is_held = |protocol: &str| {
            let bare = protocol.strip_suffix("v6").unwrap_or(protocol);
            HELD_BY_NETS.iter().any(|held| bare.eq_ignore_ascii_case(held))
        };
        let foreign = self.held.iter().filter(|(_, protocol)| !is_held(protocol));
        let foreign: Vec<_> =
            foreign.map(|(pid, protocol)| format!("process {pid} holds {protocol}")).collect();
        (!foreign.is_empty()).then(|| foreign.join(", "))
    }

    /// Listening sockets that are there now and were not before, in words.
    pub fn new_listeners_since(&self, before: &Self) -> Option<String> {
        let new = self.listening.iter().filter(|socket| !before.listening.contains(socket));
        let new: Vec<_> = new.map(|s| format!("{} {}", s.transport, s.address)).collect();
        (!new.is_empty()).then(|| new.join(", "))
    }

    /// Forgets the listeners that `later` does not have.
    pub fn keep_listeners_of(&mut self, later: &Self) {
        self.listening.retain(|socket| later.listening.contains(socket));
    }

    /// Parses the content of files below `/proc/PID/net`, by file name. Lines that are not understood are left out.
    pub fn parse(files: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| files.get(name).map(String::as_str).unwrap_or_default();
        let mut interfaces: Vec<_> = text("dev")
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect();
        interfaces.sort();
        let mut listening: Vec<_> = text(LISTENING).lines().filter_map(socket).collect();
        listening.sort();
        Self {
            addresses_v4: addresses_v4(text("fib_trie")),
            firewall: files
                .get(FIREWALL)
                .map(|tables| tables.lines().map(ToOwned::to_owned).collect()),
            strays: files.get(STRAYS).map(|text| text.lines().map(ToOwned::to_owned).collect()),
            held: text(SOCKETS)
                .lines()
                .filter_map(|line| line.split_once(' '))
                .map(|(pid, protocol)| (pid.to_owned(), protocol.to_owned()))
                .collect(),
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

/// Each local address is a leaf `|-- ADDRESS`, and below it `/32 host LOCAL`.
fn addresses_v4(trie: &str) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            addresses.extend(leaf.filter(|leaf| !addresses.contains(leaf)));
        }
    }
    addresses
}

/// `fe80…0001 02 40 20 80 eth0`.
fn address_v6(line: &str) -> Option<(Ipv6Addr, String)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let bits = u128::from_str_radix(words.first()?, 16).ok()?;
    Some((Ipv6Addr::from(bits), (*words.get(5)?).to_owned()))
}

/// `tcp 127.0.0.1:9099`.
fn socket(line: &str) -> Option<Socket> {
    let (transport, address) = line.split_once(' ')?;
    let transport = if transport == "tcp" { "tcp" } else { "udp" };
    Some(Socket { transport, address: address.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_gone_a_moment_later_is_forgotten() {
        let seen = |lines: &str| {
            Observation::parse(&BTreeMap::from([(LISTENING.to_owned(), lines.to_owned())]))
        };
        let before = seen("udp 0.0.0.0:53");
        let mut during = seen("udp 0.0.0.0:53\ntcp 0.0.0.0:8080\nudp 0.0.0.0:63412");
        during.keep_listeners_of(&seen("udp 0.0.0.0:53\ntcp 0.0.0.0:8080"));
        assert_eq!(during.new_listeners_since(&before).as_deref(), Some("tcp 0.0.0.0:8080"));
    }

    #[test]
    fn a_change_is_seen_in_its_own_part_alone() {
        let before = Observation { firewall: Some(Vec::new()), ..Observation::default() };
        let after = |change| {
            let mut after = before.clone();
            match change {
                Change::Address => after.addresses_v4.push(Ipv4Addr::new(192, 0, 2, 77)),
                Change::Route => after.routes.push((
                    "198.51.100.77/32".parse().unwrap(),
                    Ipv4Addr::UNSPECIFIED.into(),
                    "lo".into(),
                )),
                Change::Link => after.interfaces.push("cbprobe0".into()),
                Change::Firewall => after.firewall = Some(vec!["1 cbprobe".into()]),
            }
            after
        };
        let all = [Change::Address, Change::Route, Change::Link, Change::Firewall];
        for made in all {
            for looked_at in all {
                let seen = after(made).change_since(&before, looked_at);
                assert_eq!(seen.is_some(), made == looked_at, "{made:?}, {looked_at:?}: {seen:?}");
                let undone = before.change_since(&after(made), looked_at);
                assert_eq!(undone.is_some(), made == looked_at, "{made:?}, {looked_at:?}");
            }
        }
        assert_eq!(Observation::default().part(Change::Firewall), None, "not read");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_tables_are_understood() {
        let files = [
            ("dev", "Inter-| Receive\n face |bytes\n  eth0: 1 2\n    lo: 1 2\n"),
            (
                "route",
                "Iface\tDestination\neth0\t0100C80A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n",
            ),
            (
                "fib_trie",
                "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.200.0.2\n        /32 host LOCAL\n     |-- 10.200.0.1\n        /32 link UNICAST\nLocal:\n     |-- 10.200.0.2\n        /32 host LOCAL\n     |-- 127.0.0.0\n        /8 host LOCAL\n",
            ),
            (FIREWALL, "1 filter\n"),
            (STRAYS, "process 5 in net:[7]\n"),
            (SOCKETS, "3 UDP\n3 TCPv6\n4 UNIX-STREAM\n4 UDPLITEv6\n"),
            ("if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n"),
            (
                LISTENING,
                "tcp 127.0.0.1:9100
udp [::1]:53
rubbish
",
            ),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let seen = Observation::parse(&files);
        assert_eq!(seen.interfaces, ["eth0", "lo"]);
        let route = ("10.200.0.1/32".parse().unwrap(), "0.0.0.0".parse().unwrap(), "eth0".into());
        assert_eq!(seen.routes, [route]);
        assert_eq!(seen.addresses_v4, [Ipv4Addr::new(10, 200, 0, 2)]);
        assert_eq!(seen.strays, Some(vec!["process 5 in net:[7]".to_owned()]));
        assert_eq!(Observation::parse(&BTreeMap::new()).strays, None, "not seen");
        assert_eq!(seen.addresses_v6, [(Ipv6Addr::LOCALHOST, "lo".to_owned())]);
        let listening: Vec<_> = seen.listening.iter().map(|s| s.address.to_string()).collect();
        assert_eq!(listening, ["127.0.0.1:9100", "[::1]:53"]);
        let stray = |planned: &[u16]| seen.unplanned_listeners(&planned.iter().copied().collect());
        assert_eq!(stray(&[]), None, "on loopback alone");
        let open = Socket { transport: "tcp", address: "0.0.0.0:6060".parse().unwrap() };
        let opened = Observation { listening: vec![open], ..seen.clone() };
        assert_eq!(opened.unplanned_listeners(&[6060].into()), None);
        assert_eq!(opened.unplanned_listeners(&[80].into()).as_deref(), Some("tcp 0.0.0.0:6060"));
        let wireless =
            Observation { interfaces: vec!["lo".into()], routes: Vec::new(), ..seen.clone() };
        assert!(wireless.change_since(&seen, Change::Link).is_some());
        assert!(wireless.has_lost_since(&seen));
        let rerouted = Observation { routes: Vec::new(), ..seen.clone() };
        assert!(!rerouted.has_lost_since(&seen), "it has its wire");
        assert!(!seen.has_lost_since(&wireless) && !seen.has_lost_since(&seen));
        assert!(seen.holds_ordinary());
        assert_eq!(seen.foreign_sockets(), None);
        let vsock = ("5".to_owned(), "AF_VSOCK".to_owned());
        let foreign = Observation { held: vec![vsock], ..seen.clone() };
        assert_eq!(foreign.foreign_sockets().as_deref(), Some("process 5 holds AF_VSOCK"));
        assert!(!foreign.holds_ordinary());
        assert_eq!(Observation::parse(&BTreeMap::new()), Observation::default());
    }
}
