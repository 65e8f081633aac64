//! Send the nonce in one UDP datagram, wait for the answer.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::SockType;

use super::{Means, dial};

pub(super) fn attempt(target: &Target, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    dial::each_address(target, means, |address| one(address, nonce, until))
}

/// The socket is connected, so that what comes back as ICMP shows as an errno (`udp(7)`).
fn one(address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    let socket = match dial::connected(SockType::Datagram, address, until) {
        Ok(socket) => socket,
        Err(word) => return word,
    };
    let local = dial::local(&socket);
    let Ok(waiting) = socket.try_clone() else { return Word::new(How::Failed) };
    let socket = UdpSocket::from(socket);
    let word = match socket.send(nonce.as_str().as_bytes()) {
        Ok(_) => answer(&socket, &waiting, nonce, until),
        Err(error) => dial::errno_word(errno(&error)),
    };
    Word { local, ..word }
}

pub(super) fn answer(
    socket: &UdpSocket,
    waiting: &std::os::fd::OwnedFd,
    nonce: &Nonce,
    until: Instant,
) -> Word {
    let mut buffer = [0; 512];
    while dial::wait(waiting, PollFlags::POLLIN, until) {
        match socket.recv(&mut buffer) {
            Ok(length) if Nonce::scan(&buffer[..length]).any(|seen| seen == *nonce) => {
                return Word::new(How::Answered);
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return dial::errno_word(errno(&error)),
        }
    }
    // It left, and nothing came back: dropped on the way, or delivered one way.
    Word::new(How::TimedOut)
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
