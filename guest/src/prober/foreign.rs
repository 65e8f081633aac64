//! Make sockets of families that ignore net namespaces. They are sent nothing: that they are there, the outside sees.

use std::time::Instant;

use claude_bottle_protocol::prober::{How, Word};

use super::hold::Release;
use super::{Ready, dial};
use crate::sys::socket;

/// To the hypervisor and to other virtual machines (`vsock(7)`), and to the kernel's own cryptography (AF_ALG): neither is held
/// by a net namespace. These two are there in nearly every kernel, and no other module is loaded for a probe's sake.
const FAMILIES: [(&str, i32, i32); 2] = [
    ("AF_VSOCK", libc::AF_VSOCK, libc::SOCK_STREAM),
    ("AF_ALG", libc::AF_ALG, libc::SOCK_SEQPACKET),
];

/// Keeps what could be made until the outside has looked. The ordinary socket beside is the control: who looks must see it.
pub(super) fn attempt(ready: &Ready<'_>, until: Instant, release: &Release) -> Word {
    let ordinary = match socket::open(libc::AF_INET, libc::SOCK_DGRAM, 0) {
        Ok(socket) => socket,
        Err(errno) => return Word { errno: Some(errno as i32), ..Word::new(How::Failed) },
    };
    let tried = FAMILIES.map(|(name, family, kind)| (name, socket::open(family, kind, 0)));
    ready.tell(None);
    release.wait(until);
    drop(ordinary);
    let made: Vec<_> =
        tried.iter().filter(|(_, socket)| socket.is_ok()).map(|(name, _)| *name).collect();
    if !made.is_empty() {
        let detail = format!("{} could be made", made.join(" and "));
        return Word { detail: Some(detail), ..Word::new(How::Sent) };
    }
    let refused = tried.into_iter().find_map(|(_, socket)| socket.err());
    refused.map_or_else(|| Word::new(How::Failed), dial::socket_word)
}
