//! Ask a forward proxy to carry the nonce on.
//!
//! The prober says to the proxy what a client would, and resolves nothing of it: names are the proxy's business.

mod hello;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{Asks, How, Proxied, Target, Word};
use nix::poll::PollFlags;
use nix::sys::socket::SockType;

use super::{Means, dial};

/// The ports on which a tunnel is not left to itself.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

pub(super) fn attempt(asked: &Proxied, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    dial::each_server(&asked.proxy, means, |address| one(asked, address, nonce, until))
}

fn one(asked: &Proxied, address: SocketAddr, nonce: &Nonce, until: Instant) -> Word {
    let socket = match dial::connected(SockType::Stream, address, until) {
        Ok(socket) => socket,
        Err(word) => return word,
    };
    let local = dial::local(&socket);
    let word = talk(asked, TcpStream::from(socket), nonce, until);
    Word { local, ..word }
}

fn talk(asked: &Proxied, stream: TcpStream, nonce: &Nonce, until: Instant) -> Word {
    let mut talk = Talk { stream, heard: Vec::new(), until };
    let (host, port) = (asked.target.host.as_str(), asked.target.port);
    let agent = format!("User-Agent: claude-bottle/{nonce}");
    match asked.asks {
        Asks::Connect => match talk.tunnel(host, port) {
            Ok(()) => talk.answer(&in_tunnel(host, port, nonce), nonce),
            Err(word) => word,
        },
        Asks::ForeignSni => match talk.tunnel(&asked.allowed, HTTPS) {
            Ok(()) => talk.answer(&in_tunnel(host, HTTPS, nonce), nonce),
            Err(word) => word,
        },
        Asks::Get => {
            let at = authority(&asked.target);
            let get = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{agent}\r\n\r\n");
            talk.answer(get.as_bytes(), nonce)
        }
        Asks::ForeignHost => {
            let (allowed, host) = (&asked.allowed, authority(&asked.target));
            let get = format!("GET http://{allowed}/ HTTP/1.1\r\nHost: {host}\r\n{agent}\r\n\r\n");
            talk.answer(get.as_bytes(), nonce)
        }
        Asks::Smuggled => talk.answer(smuggled(asked, &agent).as_bytes(), nonce),
    }
}

/// Whoever goes by `Content-Length` sees one request, whoever goes by `Transfer-Encoding` two.
fn smuggled(asked: &Proxied, agent: &str) -> String {
    let (allowed, at) = (&asked.allowed, authority(&asked.target));
    let second = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{agent}\r\n\r\n");
    let body = format!("0\r\n\r\n{second}");
    format!(
        "POST http://{allowed}/ HTTP/1.1\r\nHost: {allowed}\r\nContent-Length: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{body}",
        body.len()
    )
}

fn authority(target: &Target) -> String {
    let Target { host, port } = target;
    if *port == HTTP { host.clone() } else { format!("{host}:{port}") }
}

/// What goes through a tunnel first: the nonce, in what is spoken at such a port.
fn in_tunnel(host: &str, port: u16, nonce: &Nonce) -> Vec<u8> {
    let plain = format!("{nonce}\n");
    match port {
        HTTPS => [hello::to(host), plain.into_bytes()].concat(),
        HTTP => {
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: claude-bottle/{nonce}\r\n\r\n")
                .into_bytes()
        }
        _ => plain.into_bytes(),
    }
}

/// A connection to the proxy, and what it has said.
struct Talk {
    stream: TcpStream,
    heard: Vec<u8>,
    until: Instant,
}

impl Talk {
    /// Asks for a tunnel; an error is how that was refused.
    fn tunnel(&mut self, host: &str, port: u16) -> Result<(), Word> {
        let connect = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        if self.stream.write_all(connect.as_bytes()).is_err() {
            return Err(Word::new(How::Refused));
        }
        let is_head = |heard: &[u8]| heard.windows(4).any(|four| four == b"\r\n\r\n");
        let whole = self.hear(is_head);
        match status(&self.heard) {
            Some((200, _)) => {
                self.heard.clear();
                Ok(())
            }
            Some((code, line)) => Err(refused(code, line)),
            None => Err(Word::new(if whole { How::Failed } else { How::TimedOut })),
        }
    }

    /// Sends `message`, which carries the nonce, and waits until it comes back.
    fn answer(&mut self, message: &[u8], nonce: &Nonce) -> Word {
        let sent = self.stream.write_all(message).is_ok();
        let is_back = |heard: &[u8]| Nonce::scan(heard).any(|seen| seen == *nonce);
        let closed = self.hear(is_back);
        if is_back(&self.heard) {
            return Word::new(How::Answered);
        }
        match status(&self.heard) {
            Some((code, line)) if code >= 400 => refused(code, line),
            Some(_) => Word::new(How::Connected),
            // In a tunnel it has no other way to say so.
            None if closed || !sent => {
                let detail = Some("it closed the connection".into());
                Word { detail, ..Word::new(How::DeniedByProxy) }
            }
            None => Word::new(How::TimedOut),
        }
    }

    /// Reads until there is enough, or the end (true in both cases), or no more time.
    fn hear(&mut self, enough: impl Fn(&[u8]) -> bool) -> bool {
        let Ok(waiting) = self.stream.try_clone().map(OwnedFd::from) else { return false };
        let mut buffer = [0; 1024];
        while self.heard.len() < LONGEST_ANSWER {
            if enough(&self.heard) {
                return true;
            }
            if !dial::wait(&waiting, PollFlags::POLLIN, self.until) {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(length) => self.heard.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        true
    }
}

/// The code and the line of an answer (RFC 9112 §4).
fn status(heard: &[u8]) -> Option<(u16, String)> {
    let line = heard.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    Some((rest.get(2..5)?.parse().ok()?, line.chars().take(80).collect()))
}

/// What the answer of a proxy means that does not carry on. 502 and 504: it would have, and there was no way.
fn refused(code: u16, line: String) -> Word {
    let how = if matches!(code, 502 | 504) { How::Unreachable } else { How::DeniedByProxy };
    Word { detail: Some(line), ..Word::new(how) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(asks: Asks) -> Proxied {
        let target = |host: &str, port| Target { host: host.into(), port };
        let proxy = target("10.200.0.1", 8888);
        Proxied { proxy, asks, target: target("evil.test", 80), allowed: "allowed.test".into() }
    }

    #[test]
    fn an_answer_that_is_none_says_how() {
        for (heard, how) in [
            ("HTTP/1.1 403 Forbidden\r\n\r\n", How::DeniedByProxy),
            ("HTTP/1.1 400 Bad Request\r\n", How::DeniedByProxy),
            ("HTTP/1.0 502 Bad Gateway\r\n", How::Unreachable),
        ] {
            let (code, line) = status(heard.as_bytes()).unwrap();
            assert_eq!(refused(code, line).how, how, "{heard}");
        }
        for none in ["", "HTTP/1.1", "HTTP/1.1 abc", "SSH-2.0-x\r\n"] {
            assert_eq!(status(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn a_smuggled_request_is_the_body_of_another() {
        let message = smuggled(&asked(Asks::Smuggled), "User-Agent: x");
        let (head, body) = message.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(body.starts_with("0\r\n\r\nGET http://evil.test/ "), "{body}");
    }

    #[test]
    fn a_tunnel_begins_as_its_port_is_used() {
        let nonce = Nonce::from_bits(7);
        assert_eq!(in_tunnel("a.test", 443, &nonce)[0], 22);
        assert!(in_tunnel("a.test", 80, &nonce).starts_with(b"GET / HTTP/1.1\r\nHost: a.test\r\n"));
        assert_eq!(in_tunnel("a.test", 22, &nonce), format!("{nonce}\n").as_bytes());
        for port in [443, 80, 22] {
            assert!(Nonce::scan(&in_tunnel("a.test", port, &nonce)).any(|seen| seen == nonce));
        }
    }
}
