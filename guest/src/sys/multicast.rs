//! Membership of multicast groups by the interface's number; `nix` knows it by one of its addresses, which not every
//! interface has.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Joins `group` on the interface with this number (`ip(7)`, `IP_ADD_MEMBERSHIP`).
pub(crate) fn join(socket: BorrowedFd<'_>, group: Ipv4Addr, interface: u32) -> nix::Result<()> {
    let interface = libc::c_int::try_from(interface).map_err(|_| nix::Error::ENODEV)?;
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes(group.octets()) },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: interface,
    };
    let length = libc::socklen_t::try_from(size_of_val(&request)).unwrap_or(0);
    // SAFETY: `request` is as long as `length` says, lives across the call, and is copied.
    nix::Error::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            length,
        )
    })?;
    Ok(())
}
