//! Change the net namespace's configuration over netlink. The outside looks whether it did.

use std::net::{IpAddr, Ipv4Addr};

use claude_bottle_protocol::helper::Address;
use claude_bottle_protocol::prober::{Change, How, Word};
use nix::errno::Errno;

use super::dial;
use crate::failure::Failure;
use crate::netlink::{self, LOOPBACK, Netlink};
use crate::nftables;

/// The word is `sent` when the kernel took the change.
pub(super) fn attempt(change: Change) -> Word {
    match make(change) {
        Ok(()) => Word::new(How::Sent),
        Err(Failure { errno, what }) => {
            let word = dial::errno_word(Errno::from_raw(errno));
            Word { detail: Some(format!("cannot {what}")), ..word }
        }
    }
}

fn make(change: Change) -> Result<(), Failure> {
    let documentation = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let request = match change {
        Change::Address => {
            let (interface, address) = ("lo".to_owned(), documentation(192, 0, 2, 77));
            netlink::address(LOOPBACK, &Address { interface, address, prefix: 32 })
        }
        Change::Route => netlink::unreachable(documentation(198, 51, 100, 77)),
        Change::Link => netlink::veth_here("cbprobe0", "cbprobe1"),
        Change::Firewall => return nftables::make_table("cbprobe"),
    };
    Netlink::open()?.apply(vec![request])
}
