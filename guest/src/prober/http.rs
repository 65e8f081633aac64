//! Send an HTTP request that carries the nonce, wait for a response with it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Request, Word};
use nix::sys::socket::SockType;

use super::{Means, dial, tcp};

pub(super) fn attempt(request: &Request, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    dial::each_address(&request.target, means, |address| one(request, address, nonce, until))
}

fn one(request: &Request, address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    let socket = match dial::connected(SockType::Stream, address, until) {
        Ok(socket) => socket,
        Err(word) => return word,
    };
    let local = dial::local(&socket);
    let mut stream = TcpStream::from(socket);
    let sent = stream.write_all(request.message(nonce).as_bytes()).is_ok();
    let answered = sent && tcp::answered(stream, nonce, until);
    let how = if answered { How::Answered } else { How::Connected };
    Word { local, ..Word::new(how) }
}
