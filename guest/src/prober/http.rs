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
    let sent = stream.write_all(message(request, nonce).as_bytes()).is_ok();
    let answered = sent && tcp::answered(stream, nonce, until);
    let how = if answered { How::Answered } else { How::Connected };
    Word { local, ..Word::new(how) }
}

/// The request as a real client would send it. The nonce is in a header that servers take no notice of, so that path and
/// headers are what the definition says.
fn message(request: &Request, nonce: &Nonce) -> String {
    let Request { target, line, headers } = request;
    // Neither is the guest's to choose; a line break in one would make it two.
    let clean = |text: &str| text.replace(['\r', '\n'], "");
    let mut message = format!("{} HTTP/1.1\r\nHost: {}\r\n", clean(line), host(target));
    for header in headers {
        message.push_str(&clean(header));
        message.push_str("\r\n");
    }
    message + &format!("User-Agent: claude-bottle/{nonce}\r\nConnection: close\r\n\r\n")
}

/// An IPv6 address is written in brackets (RFC 3986 §3.2.2).
fn host(target: &claude_bottle_protocol::prober::Target) -> String {
    let host = &target.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    if target.port == 80 { host } else { format!("{host}:{}", target.port) }
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::prober::Target;

    use super::*;

    #[test]
    fn a_request_has_the_definitions_headers_and_the_nonce() {
        let nonce = Nonce::from_bits(7);
        let request = Request {
            target: Target { host: "fd00:ec2::254".into(), port: 80 },
            line: "PUT /latest/api/token".into(),
            headers: vec!["X-aws-ec2-metadata-token-ttl-seconds: 60".into()],
        };
        let expected = format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: [fd00:ec2::254]\r\n\
             X-aws-ec2-metadata-token-ttl-seconds: 60\r\nUser-Agent: claude-bottle/{nonce}\r\n\
             Connection: close\r\n\r\n"
        );
        assert_eq!(message(&request, &nonce), expected);
        let forged = Request { headers: vec!["A: 1\r\n\r\nGET / ".into()], ..request };
        assert_eq!(message(&forged, &nonce).matches("\r\n\r\n").count(), 1);
    }
}
