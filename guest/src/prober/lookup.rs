//! Look up a name that carries the nonce: whoever asks further for it delivers the nonce.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Lookup, Server, Target, Word};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::SockType;

use super::{Means, dial, tcp};
use crate::dns::{self, Query};

/// The port of DNS (RFC 1035 §4.2).
const PORT: u16 = 53;
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 4096;
/// How many resolvers are asked: glibc's own limit (`MAXNS`, `resolv.conf(5)`).
const MOST_SERVERS: usize = 3;

/// Asks over UDP or TCP.
pub(super) fn attempt(
    lookup: &Lookup,
    kind: SockType,
    nonce: &Nonce,
    until: Instant,
    means: &Means,
) -> Word {
    let mut told = Word::new(How::NotResolved);
    for server in servers(&lookup.server) {
        // Loopback, too: in a net namespace that this run did not make, a real resolver listens there and would ask
        // the real world.
        let word = dial::each_server(&server, means, |address| {
            one(lookup, kind, address, nonce, until, means)
        });
        if word.how == How::Answered {
            return word;
        }
        if !told.how.claims_reach() {
            told = word;
        }
    }
    told
}

fn servers(server: &Server) -> Vec<Target> {
    match server {
        Server::At(target) => vec![target.clone()],
        Server::Configured => {
            let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            let target = |ip: IpAddr| Target { host: ip.to_string(), port: PORT };
            nameservers(&text).into_iter().map(target).collect()
        }
    }
}

/// The resolvers that `resolv.conf` names; where it names none, the one on the local machine.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let mut servers: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next().filter(|word| *word == "nameserver")?;
            words.next()?.parse().ok()
        })
        .take(MOST_SERVERS)
        .collect();
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers
}

fn one(
    lookup: &Lookup,
    kind: SockType,
    server: SocketAddr,
    nonce: &Nonce,
    until: Instant,
    means: &Means,
) -> Word {
    let name = format!("{nonce}.{}", lookup.below);
    let addresses = match ask(&name, kind, server, until) {
        Ok(addresses) => addresses,
        Err(word) => return word,
    };
    let Some(port) = lookup.then_connect else { return resolved(&addresses) };
    // The first answer was looked at; it is the second one that is used.
    match ask(&name, kind, server, until) {
        Err(word) => word,
        Ok(again) => {
            let Some(ip) = again.first() else { return resolved(&addresses) };
            let target = Target { host: ip.to_string(), port };
            let word = tcp::attempt(&target, nonce, until, means);
            let detail = format!("{name} was {addresses:?}, then {again:?}");
            Word { detail: Some(detail), ..word }
        }
    }
}

fn resolved(addresses: &[Ipv4Addr]) -> Word {
    Word { detail: Some(format!("resolved to {addresses:?}")), ..Word::new(How::Answered) }
}

/// The addresses that `server` gives for `name`.
fn ask(
    name: &str,
    kind: SockType,
    server: SocketAddr,
    until: Instant,
) -> Result<Vec<Ipv4Addr>, Word> {
    // Anything will do: the name itself is what nobody can guess.
    let query = Query { id: 0xcb0b, name: name.to_owned() };
    let message = query.encode().ok_or_else(|| Word::new(How::Failed))?;
    let socket = dial::connected(kind, server, until)?;
    let local = dial::local(&socket);
    let answer = match kind {
        SockType::Datagram => over_udp(socket, &message, &query, until),
        _ => over_tcp(socket, &message, &query, until),
    };
    answer.map_err(|word| Word { local, ..word })
}

fn over_udp(
    socket: OwnedFd,
    message: &[u8],
    query: &Query,
    until: Instant,
) -> Result<Vec<Ipv4Addr>, Word> {
    let waiting = socket.try_clone().map_err(|_| Word::new(How::Failed))?;
    let socket = UdpSocket::from(socket);
    socket.send(message).map_err(|error| dial::errno_word(errno(&error)))?;
    let mut buffer = [0; LONGEST_ANSWER];
    while dial::wait(&waiting, PollFlags::POLLIN, until) {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                if let Some(addresses) = query.answered_by(&buffer[..length]) {
                    return Ok(addresses);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(dial::errno_word(errno(&error))),
        }
    }
    Err(Word::new(How::TimedOut))
}

fn over_tcp(
    socket: OwnedFd,
    message: &[u8],
    query: &Query,
    until: Instant,
) -> Result<Vec<Ipv4Addr>, Word> {
    let connected = || Word::new(How::Connected);
    let waiting = socket.try_clone().map_err(|_| Word::new(How::Failed))?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&dns::framed(message)).map_err(|_| connected())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while answer.len() < LONGEST_ANSWER && dial::wait(&waiting, PollFlags::POLLIN, until) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(connected()),
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(connected()),
        }
        if let Some(message) = dns::unframed(&answer) {
            return query.answered_by(message).ok_or_else(connected);
        }
    }
    Err(connected())
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_resolvers_are_asked_and_else_the_local_one() {
        let text = "# nameserver 9.9.9.9\nsearch lab.test\nnameserver 127.0.0.11\nnameserver\t::1 # x\n\
                    nameserver nonsense\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n";
        let expected = ["127.0.0.11", "::1", "10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(nameservers(text), expected);
        assert_eq!(nameservers("options ndots:0\n"), [Ipv4Addr::LOCALHOST]);
    }
}
