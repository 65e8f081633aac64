//! A net namespace of one process' own, on the wire of a bridge of the net namespace that it comes from: what a container on
//! that bridge has. Namespace and wire are gone with the last process in it.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use claude_bottle_protocol::helper::{Address, Route};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use crate::failure::{Doing as _, Failure};
use crate::netlink::{self, Netlink};

/// The interface, as an engine calls that of a container.
const INTERFACE: &str = "eth0";
/// Its number.
const NUMBER: u32 = 2;
/// The bridge's port; the kernel fills the number in.
const PORT: &str = "bottle%d";

/// Moves the calling process, which must have one thread, to a new net namespace: with `address` on the bridge called `bridge`,
/// and a default route by way of `gateway`. It has no IPv6, as a container on a network without it.
pub(crate) fn move_to(
    bridge: &str,
    (address, prefix): (Ipv4Addr, u8),
    gateway: Ipv4Addr,
) -> Result<(), Failure> {
    let number = if_nametoindex(bridge).doing(|| format!("find the bridge {bridge}"))?;
    // It stays where it was made.
    let mut outside = Netlink::open()?;
    unshare(CloneFlags::CLONE_NEWNET).doing(|| "unshare a net namespace".into())?;
    for which in ["all", "default"] {
        let setting = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        match std::fs::write(&setting, "1") {
            // A kernel without IPv6 has no such switch.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            written => written.doing(|| format!("write to {setting}"))?,
        }
    }
    let inside = File::open("/proc/self/ns/net").doing(|| "open the new net namespace".into())?;
    let end = (INTERFACE, NUMBER, inside.as_fd());
    outside.apply(vec![netlink::bridge_port((PORT, number), end)])?;
    let interface = INTERFACE.to_owned();
    let address = Address { interface: interface.clone(), address: address.into(), prefix };
    let everywhere = Route {
        destination: Ipv4Addr::UNSPECIFIED.into(),
        prefix: 0,
        via: Some(gateway.into()),
        interface,
    };
    let mut here = Netlink::open()?;
    here.apply(vec![
        netlink::up(netlink::LOOPBACK),
        netlink::up(NUMBER),
        netlink::address(NUMBER, &address),
        netlink::route(NUMBER, &everywhere),
    ])?;
    if here.comes_up(NUMBER)? {
        return Ok(());
    }
    Err(Failure::new(format!("wait for the wire to {bridge} to come up")))
}
