//! Connect to every TCP port of one address but those that are planned.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Sweep, Target, Word};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getpeername, getsockname, socket,
};

use super::{Means, address, dial};

/// How many connections are under way at a time: other attempts need descriptors, too.
const AT_ONCE: usize = 64;
/// How many open ports are named.
const NAMED: usize = 8;
/// How long to wait for any of them at a time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What became of the ports so far.
#[derive(Debug, Default)]
struct Tally {
    open: Vec<u16>,
    /// The errno of the last port that failed otherwise than refused.
    other: Option<Errno>,
    refused: u32,
}

pub(super) fn attempt(sweep: &Sweep, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    let target = Target { host: sweep.host.clone(), port: 1 };
    dial::each_address(&target, means, |address| one(address, ports(sweep), nonce, until))
}

/// All there are, but those that are left out.
fn ports(Sweep { except, .. }: &Sweep) -> impl Iterator<Item = u16> + use<> {
    let except: BTreeSet<u16> = except.iter().copied().collect();
    (1..=u16::MAX).filter(move |port| !except.contains(port))
}

fn one(
    address: SocketAddr,
    ports: impl Iterator<Item = u16>,
    nonce: &Nonce,
    until: Instant,
) -> Word {
    let mut ports = ports.peekable();
    let mut pending: Vec<(u16, OwnedFd)> = Vec::new();
    let mut tally = Tally::default();
    loop {
        for port in ports.by_ref().take(AT_ONCE - pending.len()) {
            match begin(SocketAddr::new(address.ip(), port)) {
                Ok((socket, true)) => tally.opened(port, socket, nonce),
                // Over a wire within this machine the refusal is there already, and polling costs more than all the rest.
                Ok((socket, false)) => match dial::pending_error(&socket) {
                    Some(errno) => tally.failed(errno),
                    None => pending.push((port, socket)),
                },
                Err(errno) => tally.failed(errno),
            }
        }
        let first = pending.first().map(|(port, _)| *port);
        let Some(next) = first.or(ports.peek().copied()) else { return tally.word() };
        if Instant::now() >= until {
            let detail = format!("not done at port {next}");
            return Word { detail: Some(detail), ..Word::new(How::TimedOut) };
        }
        if pending.is_empty() {
            continue;
        }
        for (port, socket) in settled(&mut pending) {
            match dial::pending_error(&socket) {
                None => tally.opened(port, socket, nonce),
                Some(errno) => tally.failed(errno),
            }
        }
    }
}

/// Begins to connect; true if it is done already.
fn begin(address: SocketAddr) -> nix::Result<(OwnedFd, bool)> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &*address::exact(address)) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::EINPROGRESS) => Ok((socket, false)),
        Err(errno) => Err(errno),
    }
}

/// Those of which it is known by now what became of them.
fn settled(pending: &mut Vec<(u16, OwnedFd)>) -> Vec<(u16, OwnedFd)> {
    let watch = |socket| PollFd::new(socket, PollFlags::POLLOUT);
    let mut fds: Vec<_> = pending.iter().map(|(_, socket)| watch(socket.as_fd())).collect();
    let patience = PollTimeout::try_from(LOOK_AGAIN).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut fds, patience);
    let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
    drop(fds);
    let mut ready = ready.into_iter();
    pending.extract_if(.., |_| ready.next().unwrap_or(false)).collect()
}

impl Tally {
    /// Whoever listens there gets the nonce.
    fn opened(&mut self, port: u16, socket: OwnedFd, nonce: &Nonce) {
        // Among the prober's own addresses it may come to a port at which its own socket happens to be: that one connects to
        // itself (RFC 9293 §3.5, a simultaneous open), and nobody listens.
        let peer = getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok();
        if peer.is_some() && peer == getsockname(socket.as_raw_fd()).ok() {
            self.refused += 1;
            return;
        }
        let _ = TcpStream::from(socket).write_all(format!("{nonce}\n").as_bytes());
        self.open.push(port);
    }

    fn failed(&mut self, errno: Errno) {
        match errno {
            Errno::ECONNREFUSED => self.refused += 1,
            errno => self.other = Some(errno),
        }
    }

    fn word(self) -> Word {
        let Self { open, other, refused } = self;
        if !open.is_empty() {
            let named: Vec<_> = open.iter().take(NAMED).map(ToString::to_string).collect();
            let detail = format!("{} ports are open: {}", open.len(), named.join(", "));
            return Word { detail: Some(detail), ..Word::new(How::Connected) };
        }
        let word = other.map_or_else(|| Word::new(How::Refused), dial::errno_word);
        Word { detail: Some(format!("{refused} ports refused")), ..word }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_that_connects_to_itself_is_no_open_port() {
        let any = SockaddrStorage::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
        let own = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        nix::sys::socket::bind(own.as_raw_fd(), &any).unwrap();
        let itself: SockaddrStorage = getsockname(own.as_raw_fd()).unwrap();
        connect(own.as_raw_fd(), &itself).unwrap();
        let mut tally = Tally::default();
        tally.opened(1, own, &Nonce::from_bits(7));
        assert_eq!(tally.word().how, How::Refused);
    }

    #[test]
    fn an_open_port_gets_the_nonce() {
        let bound = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (listener, closed) = (bound(), bound());
        let address = listener.local_addr().unwrap();
        let ports = [address.port(), closed.local_addr().unwrap().port()];
        drop(closed);
        // What else listens on this machine is none of our business.
        let swept = |ports: &[u16]| {
            let until = Instant::now() + Duration::from_secs(60);
            one(address, ports.iter().copied(), &Nonce::from_bits(7), until)
        };
        let word = swept(&ports);
        let detail = format!("1 ports are open: {}", address.port());
        assert_eq!((word.how, word.detail), (How::Connected, Some(detail)));
        let mut got = String::new();
        listener.accept().unwrap().0.read_to_string(&mut got).unwrap();
        assert_eq!(got.trim_end(), Nonce::from_bits(7).as_str());

        let word = swept(&ports[1..]);
        assert_eq!((word.how, word.detail.as_deref()), (How::Refused, Some("1 ports refused")));
    }

    #[test]
    fn every_port_is_swept_but_those_that_are_left_out() {
        let swept = |except: &[u16]| {
            ports(&Sweep { host: String::new(), except: except.to_vec() }).collect::<Vec<_>>()
        };
        let all = swept(&[]);
        assert_eq!((all.len(), all[0], all[65_534]), (65_535, 1, 65_535));
        let some = swept(&[8888, 1, 65_535, 1]);
        assert_eq!((some.len(), some[0], some.last()), (65_532, 2, Some(&65_534)));
        assert!(!some.contains(&8888));
    }
}
