//! The numbers of the ports that witnesses listen on, whoever makes the lab.

use claude_bottle_protocol::witness::Transport;

/// Where the witness stands in for the gateway daemon: whether that is reached at all is not for the real one to decide.
pub(in crate::backend) const GATEWAY: u16 = 8887;
/// Of the egress daemon.
pub(in crate::backend) const EGRESS: u16 = 9099;
/// Of the discard service (RFC 863).
pub(in crate::backend) const DISCARD: u16 = 9;
/// Of the Docker engine's API, without and with TLS.
pub(in crate::backend) const ENGINE: &[u16] = &[2375, 2376];
/// Of the neighbour's service.
pub(in crate::backend) const NEIGHBOUR: u16 = 8080;

/// The ethertype that IEEE 802 sets aside for experiments.
const EXPERIMENTAL: u16 = 0x88b5;
/// The ethertype of ARP (RFC 826).
const ARP: u16 = 0x0806;

/// What is no port: ICMP echoes and frames.
pub(in crate::backend) const BELOW: &[(&str, Transport, u16)] = &[
    ("icmp", Transport::Icmp, 0),
    ("experimental", Transport::Packet, EXPERIMENTAL),
    ("arp", Transport::Packet, ARP),
];
