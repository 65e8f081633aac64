//! The addresses of the embedded lab. All of them exist inside its own net namespaces alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(s: [u16; 8]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]))
}

/// The bottle's address on its wire to the bundle.
pub(in super::super) const BOTTLE: IpAddr = v4(10, 200, 0, 2);
/// The bundle's pinned address.
pub(in super::super) const BUNDLE: IpAddr = v4(10, 200, 0, 1);
/// The bundle's address on the host's bridge.
pub(super) const BUNDLE_UPLINK: IpAddr = v4(10, 200, 1, 2);
/// The host's address there: the gateway of the bundle.
pub(super) const HOST_GATEWAY: IpAddr = v4(10, 200, 1, 1);
/// The neighbour bottle's address on a bridge of its own.
pub(super) const NEIGHBOUR: IpAddr = v4(10, 200, 2, 2);
/// The host's address there.
pub(super) const NEIGHBOUR_GATEWAY: IpAddr = v4(10, 200, 2, 1);
/// The host's address on its own network.
pub(super) const HOST_LAN: IpAddr = v4(192, 168, 200, 10);
/// The host's address on every one of its wires: link-local, so whoever dials it says on which wire. Docker gives it to its
/// bridges.
pub(super) const HOST_ON_LINK: IpAddr = v6([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
/// An address that the host has for what containers publish (`docker run --publish 10.200.4.1:18080:8080`), and for nothing
/// else.
pub(super) const PUBLISHED: IpAddr = v4(10, 200, 4, 1);
/// The directed broadcast of the neighbour's network (RFC 919).
pub(super) const NEIGHBOURS: IpAddr = v4(10, 200, 2, 255);
/// Where the engine's API is in Docker Desktop's virtual machine (CVE-2025-9074).
pub(super) const DOCKER_DESKTOP: IpAddr = v4(192, 168, 65, 7);
/// The router of that network.
pub(super) const WORLD_LAN: IpAddr = v4(192, 168, 200, 1);
/// The host's address on a wire to the bottle that only a breach lays.
pub(super) const HOST_TO_BOTTLE: IpAddr = v4(10, 200, 3, 1);
/// The bottle's address there.
pub(super) const BOTTLE_TO_HOST: IpAddr = v4(10, 200, 3, 2);

/// The bottle's address on its neighbour's segment, where only a breach puts it.
pub(super) const BOTTLE_ON_SEGMENT: IpAddr = v4(10, 200, 2, 3);

/// The host's bridges, seen from the world. The wire between bottle and bundle is none of them: nobody else knows of it.
pub(super) const BRIDGES: &[(IpAddr, u8)] =
    &[(v4(10, 200, 1, 0), 24), (v4(10, 200, 2, 0), 24), (v4(10, 200, 3, 0), 24)];
/// Everything, in IPv4.
pub(super) const ANYWHERE: (IpAddr, u8) = (v4(0, 0, 0, 0), 0);
/// Everything, in IPv6.
pub(super) const ANYWHERE_V6: (IpAddr, u8) = (v6([0; 8]), 0);
/// All that is in the lab's IPv6.
pub(super) const LAB_V6: (IpAddr, u8) = (v6([0xfd00, 0x200, 0, 0, 0, 0, 0, 0]), 32);

/// The IPv6 address of one end of the wire with this number: 0 bottle–bundle, 1 bundle–host, 2 host–world,
/// 3 bottle–host, which only a breach lays.
pub(super) const fn wire_v6(wire: u16, end: u16) -> IpAddr {
    v6([0xfd00, 0x200, wire, 0, 0, 0, 0, end])
}

/// The addresses of the internet's servers: a documentation address (RFC 5737), and two that everybody knows.
pub(super) const INTERNET: &[IpAddr] = &[v4(203, 0, 113, 10), v4(1, 1, 1, 1), v4(8, 8, 8, 8)];
/// The canary resolver's address (RFC 5737), and those of two that everybody knows.
pub(super) const RESOLVERS: &[IpAddr] = &[v4(203, 0, 113, 53), v4(1, 1, 1, 1), v4(8, 8, 8, 8)];
/// Theirs in IPv6: a documentation address (RFC 3849), and one that everybody knows.
pub(super) const INTERNET_V6: &[IpAddr] =
    &[v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10]), v6([0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111])];
/// One address in each range that is no one's on the internet: RFC 1918, RFC 6598, RFC 2544, and the class E.
pub(super) const PRIVATE: &[IpAddr] = &[
    v4(10, 99, 0, 1),
    v4(172, 16, 99, 1),
    v4(192, 168, 99, 1),
    v4(100, 64, 0, 1),
    v4(198, 18, 0, 1),
    v4(240, 0, 0, 1),
];
/// 203.0.113.10 by way of NAT64 (RFC 6052) and of 6to4 (RFC 3056).
pub(super) const NAT64: &[IpAddr] =
    &[v6([0x64, 0xff9b, 0, 0, 0, 0, 0xcb00, 0x710a]), v6([0x2002, 0xcb00, 0x710a, 0, 0, 0, 0, 1])];
/// Where clouds serve instance metadata: most of them, Alibaba, Oracle (IMDS of old), and AWS over IPv6.
pub(super) const METADATA: &[IpAddr] = &[
    v4(169, 254, 169, 254),
    v4(100, 100, 100, 200),
    v4(192, 0, 0, 192),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]),
];

/// How many bits an address of this family has.
pub(super) const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
