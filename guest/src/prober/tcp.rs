//! Connect over TCP, send the nonce, read the answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};
use nix::poll::PollFlags;
use nix::sys::socket::SockType;

use super::{Means, dial};

/// The longest answer that is searched for the nonce, in bytes.
const LONGEST_ANSWER: usize = 4096;

pub(super) fn attempt(target: &Target, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    dial::each_address(target, means, |address| one(address, nonce, until))
}

fn one(address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    let socket = match dial::connected(SockType::Stream, address, until) {
        Ok(socket) => socket,
        Err(word) => return word,
    };
    let local = dial::local(&socket);
    let how = if exchange(socket, nonce, until) { How::Answered } else { How::Connected };
    Word { local, ..Word::new(how) }
}

/// Sends the nonce; true when it comes back. A peer that accepts and says nothing, or something else, proves nothing.
pub(super) fn exchange(socket: OwnedFd, nonce: &Nonce, until: Instant) -> bool {
    let mut stream = TcpStream::from(socket);
    stream.write_all(format!("{nonce}\n").as_bytes()).is_ok() && answered(stream, nonce, until)
}

/// Whether the nonce, which has been sent, comes back.
pub(super) fn answered(mut stream: TcpStream, nonce: &Nonce, until: Instant) -> bool {
    let Ok(waiting) = stream.try_clone().map(OwnedFd::from) else { return false };
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while answer.len() < LONGEST_ANSWER && dial::wait(&waiting, PollFlags::POLLIN, until) {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        if Nonce::scan(&answer).any(|seen| seen == *nonce) {
            return true;
        }
    }
    false
}
