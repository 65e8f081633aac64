//! A packet socket for several ethertypes at once: `nix` neither binds one nor filters what it receives.

use std::os::fd::{AsRawFd as _, OwnedFd};

use super::socket;

/// Where a filter finds what the kernel knows of a packet beside its bytes (`linux/filter.h`).
const KIND: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const ETHERTYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL).cast_unsigned();
/// The kind of a packet that is on its way out (`linux/if_packet.h`).
const OUTGOING: u32 = 4;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// How much of a packet is taken: all of it, or nothing.
const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// A packet socket that receives what arrives with any of `ethertypes`, on every interface, without the link's header.
///
/// One for all of them, since to close one takes until every processor has passed a quiet state (`packet_release`), and those
/// of a process that is killed are closed one after the other.
pub(crate) fn open(ethertypes: &[u16]) -> nix::Result<OwnedFd> {
    // Of no protocol until its filter stands: it receives nothing before.
    let socket = socket::open(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
    let mut steps = filter(ethertypes);
    let program = libc::sock_fprog {
        len: u16::try_from(steps.len()).map_err(|_| nix::Error::E2BIG)?,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: `program` points to as many steps as it says, and both are copied within the call.
    nix::Error::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length(&program),
        )
    })?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
        sll_protocol: u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be(),
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: `address` is of the socket's family, as long as it is said to be, and copied within the call.
    nix::Error::result(unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length(&address))
    })?;
    Ok(socket)
}

fn length<T>(argument: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(argument)).unwrap_or(0)
}

/// Takes what arrives and has one of `ethertypes`.
fn filter(ethertypes: &[u16]) -> Vec<libc::sock_filter> {
    let step = |code: u32, k: u32, jt: u8, jf: u8| {
        let code = u16::try_from(code).unwrap_or_default();
        libc::sock_filter { code, jt, jf, k }
    };
    let mut steps = vec![
        step(LOAD, KIND, 0, 0),
        step(IF_EQUAL, OUTGOING, 0, 1),
        step(RETURN, NOTHING, 0, 0),
        step(LOAD, ETHERTYPE, 0, 0),
    ];
    for ethertype in ethertypes {
        steps.push(step(IF_EQUAL, u32::from(*ethertype), 0, 1));
        steps.push(step(RETURN, ALL, 0, 0));
    }
    steps.push(step(RETURN, NOTHING, 0, 0));
    steps
}
