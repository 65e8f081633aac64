//! Connect over vsock to the loopback of the machine, which no net namespace holds back (`vsock(7)`).

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Word};
use nix::errno::Errno;
use nix::sys::socket::{VsockAddr, bind, connect};

use super::{Means, dial, inherited};
use crate::sys::socket;

/// `VMADDR_CID_LOCAL` (`linux/vm_sockets.h`).
const LOOPBACK: u32 = 1;
/// `VMADDR_PORT_ANY`.
const ANY_PORT: u32 = u32::MAX;

pub(super) fn attempt(port: u32, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    if !means.guard.permits_changes() {
        let detail = Some("the fuse forbids vsock, which leads out of a virtual machine".into());
        return Word { detail, ..Word::new(How::Fused) };
    }
    let socket = match socket::open(libc::AF_VSOCK, libc::SOCK_STREAM, 0) {
        Ok(socket) => socket,
        Err(errno) => return dial::socket_word(errno),
    };
    // Only where the kernel has the loopback may a socket be bound to it (`vsock_find_cid`). Where it has not, a virtual
    // machine's kernel hands what is for CID 1 to the hypervisor: nothing is dialled then.
    if let Err(errno) = bind(socket.as_raw_fd(), &VsockAddr::new(LOOPBACK, ANY_PORT)) {
        let detail = Some("vsock has no loopback here: nothing was dialled".into());
        return Word { detail, ..dial::errno_word(errno) };
    }
    exchange(socket, port, nonce, until)
}

fn exchange(socket: OwnedFd, port: u32, nonce: &Nonce, until: Instant) -> Word {
    let connected = match connect(socket.as_raw_fd(), &VsockAddr::new(LOOPBACK, port)) {
        Ok(()) => Ok(socket),
        Err(Errno::EINPROGRESS) => dial::established(socket, until),
        Err(errno) => Err(dial::errno_word(errno)),
    };
    match connected {
        Ok(socket) => match inherited::exchange(&socket, nonce, until) {
            // It was accepted, and said nothing.
            Ok(Word { how: How::Sent, .. }) => Word::new(How::Connected),
            Ok(word) => word,
            Err(errno) => dial::errno_word(errno),
        },
        Err(word) => word,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use claude_bottle_protocol::prober::Fuse;

    use super::super::fuse::Guard;
    use super::super::hold::Release;
    use super::*;

    fn tried(fuse: Fuse) -> Word {
        let guard = Arc::new(Guard::new(fuse, None));
        let means = Means { guard, inherited: Arc::default(), release: Release::default() };
        let until = Instant::now() + Duration::from_secs(5);
        attempt(1, &Nonce::from_bits(7), until, &means)
    }

    #[test]
    fn nothing_is_dialled_where_only_addresses_may_be() {
        assert_eq!(tried(Fuse::Addresses(Vec::new())).how, How::Fused);
    }

    /// Port 1 of a loopback that is there has no listener; without one nothing is dialled, or there is no vsock at all.
    #[test]
    fn nothing_is_dialled_without_a_loopback() {
        let word = tried(Fuse::Namespaces(Vec::new()));
        let may = [How::Unreachable, How::SocketDenied, How::Refused];
        assert!(may.contains(&word.how), "{word:?}");
    }
}
