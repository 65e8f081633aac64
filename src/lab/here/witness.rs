//! A witness in this very process: a thread of its own, which serves its listeners until the [`Witness`] is gone.
//!
//! No kernel but Linux tells what it throws away. So what comes faster than it is surely kept counts as lost: it makes a verdict
//! inconclusive, and never better.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::time::{Duration, Instant};

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::nonce::Search;
use claude_bottle_protocol::witness::{
    Event, Listener, Lost, Opened, Order, Service, Sighting, Transport, Wanted,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{getsockopt, setsockopt};
use tokio::net::UnixStream;

use super::super::Witness;

/// The most connections that are open at once; one more is closed unread and counted as lost.
const MOST_CONNECTIONS: usize = 256;
/// How many files this process is to be able to open for that: a Mac begins with 256. Where it may not, what it could not accept
/// counts as lost.
const FILES: u64 = 2048;
/// How long nothing is accepted where no file can be opened.
const RESPITE: Duration = Duration::from_millis(1);
/// How many ports are tried until one is free for all of a group.
const PORTS_TRIED: usize = 64;
/// How many connections wait to be accepted (the standard library's), of which so many at once may have been more.
const BACKLOG: usize = 128;
/// What a datagram listener may have pending, in bytes, if the system lets it.
const RECEIVE_BUFFER: usize = 1 << 20;
/// What a datagram takes of it beside its bytes. Linux takes 768 bytes and more, and no other kernel tells.
const OVERHEAD: usize = 2304;
/// The longest datagram that is looked at, and the most that is read of a connection at once.
const READ: usize = 64 * 1024;
/// How often one nonce is reported and answered per datagram listener.
const REPEATS: u32 = 8;
/// How many turns a drain takes at most. What still comes then does not end, and counts as lost.
const TURNS: usize = 10_000;

/// Why a Unix socket, or a resolver's, is not opened.
const NOT_OURS: &str = "only the toolbox's witness serves that, and it takes Linux";

/// Opens `wanted` in this machine's own network, and serves it; but for Unix sockets and resolvers.
pub(crate) fn open(wanted: &Wanted) -> io::Result<(Witness, Opened)> {
    make_room();
    let (mut opened, mut listeners) = (Opened::default(), Vec::new());
    opened.failed.extend(wanted.sockets.iter().map(|one| (one.id, NOT_OURS.to_owned())));
    for group in &wanted.groups {
        match on_one_port(group) {
            Ok(here) => listeners.extend(here),
            Err(error) => {
                opened.failed.extend(group.iter().map(|one| (one.id, told(one, &error))));
            }
        }
    }
    for one in &listeners {
        opened.listening.push((one.id, one.socket.address()?));
    }
    let (mine, theirs) = StdStream::pair()?;
    mine.set_nonblocking(true)?;
    let (events, orders) = UnixStream::from_std(mine)?.into_split();
    let serving = Serving {
        started: Instant::now(),
        listeners,
        connections: BTreeMap::new(),
        next: 0,
        heard: BTreeMap::new(),
        talk: theirs,
        buffer: vec![0; READ],
    };
    // Its end shows as that of its events.
    std::thread::Builder::new().name("witness".into()).spawn(move || serving.run())?;
    Ok((Witness::new(events, orders), opened))
}

fn told(wanted: &Listener, error: &io::Error) -> String {
    format!("listen on {} {}: {error}", wanted.transport, wanted.address)
}

/// Lets this process open as many files as it may, if it needs them.
fn make_room() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < FILES {
        // Where it is refused, what is there must do.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(FILES), hard);
    }
}

/// All of a group at the port of its first one, or none of them. Where that may be any, another one is tried if it is taken at an
/// address of the others.
fn on_one_port(group: &[Listener]) -> io::Result<Vec<Listening>> {
    let is_any = group.first().is_some_and(|first| first.address.port() == 0);
    let mut tries = if is_any { PORTS_TRIED } else { 1 };
    loop {
        tries -= 1;
        match at_its_first_port(group) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            opened => return opened,
        }
    }
}

fn at_its_first_port(group: &[Listener]) -> io::Result<Vec<Listening>> {
    let mut port = 0;
    let mut here = Vec::new();
    for Listener { id, transport, address, service } in group {
        if *service == Service::Resolver {
            return Err(io::Error::other(NOT_OURS));
        }
        let mut address = *address;
        if address.port() == 0 {
            address.set_port(port);
        }
        let socket = Socket::open(*transport, address)?;
        port = socket.address()?.port();
        here.push(Listening { id: *id, socket, service: *service, lost: 0 });
    }
    Ok(here)
}

/// A listener, and how much it may have lost.
struct Listening {
    id: u32,
    socket: Socket,
    service: Service,
    lost: u64,
}

enum Socket {
    Tcp(TcpListener),
    /// With what it may have pending, in bytes.
    Udp(UdpSocket, usize),
}

impl Socket {
    fn open(transport: Transport, address: SocketAddr) -> io::Result<Self> {
        match transport {
            Transport::Tcp => {
                if cfg!(not(target_os = "linux")) && address.port() != 0 {
                    // The standard library lets addresses be used anew, and elsewhere that lets one take a port over from whoever
                    // listens on it at every address.
                    drop(TcpListener::bind((anywhere(address), address.port()))?);
                }
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            Transport::Udp => {
                let socket = UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                // Less is what there is, and counted with.
                let _ = setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER);
                let pending = getsockopt(&socket, RcvBuf)?;
                Ok(Self::Udp(socket, pending))
            }
            _ => Err(io::Error::other(NOT_OURS)),
        }
    }

    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Udp(socket, _) => socket.local_addr(),
        }
    }
}

fn anywhere(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket, _) => socket.as_fd(),
        }
    }
}

/// An accepted connection.
struct Connection {
    stream: TcpStream,
    service: Service,
    sighting: Sighting,
    search: Search,
}

struct Serving {
    started: Instant,
    listeners: Vec<Listening>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// How often each nonce came to a datagram listener.
    heard: BTreeMap<(u32, Nonce), u32>,
    /// Events go there, orders come from there.
    talk: StdStream,
    buffer: Vec<u8>,
}

/// What one turn met.
struct Turn {
    order: bool,
    any: bool,
}

impl Serving {
    /// Until nobody listens to it any more.
    fn run(mut self) -> io::Result<()> {
        for one in &self.listeners {
            let event = Event::Listening { listener: one.id, address: one.socket.address()? };
            report(&self.talk, &event)?;
        }
        let (mut orders, mut buffer) = (Vec::new(), [0; 1024]);
        loop {
            if !self.turn(PollTimeout::NONE)?.order {
                continue;
            }
            let length = self.talk.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            orders.extend_from_slice(&buffer[..length]);
            while let Some(end) = orders.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = orders.drain(..=end).collect();
                match serde_json::from_slice(&line)? {
                    Order::Drain => self.drain()?,
                }
            }
        }
    }

    /// Handles whatever is ready.
    fn turn(&mut self, patience: PollTimeout) -> io::Result<Turn> {
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![watch(self.talk.as_fd())];
        fds.extend(self.listeners.iter().map(|one| watch(one.socket.as_fd())));
        fds.extend(self.connections.values().map(|one| watch(one.stream.as_fd())));
        match poll(&mut fds, patience) {
            Err(nix::Error::EINTR) => return Ok(Turn { order: false, any: true }),
            answered => answered?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        let (listeners, connections) = ready[1..].split_at(self.listeners.len());
        for (index, _) in listeners.iter().enumerate().filter(|(_, ready)| **ready) {
            match &self.listeners[index].socket {
                Socket::Tcp(_) => self.accept(index)?,
                Socket::Udp(..) => self.datagrams(index)?,
            }
        }
        for (id, _) in ids.iter().zip(connections).filter(|(_, ready)| **ready) {
            if !self.hear(*id)? {
                self.connections.remove(id);
            }
        }
        Ok(Turn { order: ready[0], any: ready[1..].contains(&true) })
    }

    /// Reports all that had arrived, then what may have been lost.
    fn drain(&mut self) -> io::Result<()> {
        let mut turns = TURNS;
        while self.turn(PollTimeout::ZERO)?.any {
            turns -= 1;
            if turns == 0 {
                self.listeners.iter_mut().for_each(|one| one.lost += 1);
                break;
            }
        }
        let lost = self.listeners.iter().map(|one| Lost { listener: one.id, drops: one.lost });
        report(&self.talk, &Event::Drained { lost: lost.collect() })
    }

    fn accept(&mut self, index: usize) -> io::Result<()> {
        let at_us = micros(self.started);
        let Self { listeners, connections, next, talk, .. } = self;
        let listening = &mut listeners[index];
        let Socket::Tcp(listener) = &listening.socket else { return Ok(()) };
        let mut accepted = 0;
        loop {
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if is_full(&error) => {
                    listening.lost += 1;
                    std::thread::sleep(RESPITE);
                    break;
                }
                // None is left, or one is gone again; the next turn goes on.
                Err(_) => break,
            };
            accepted += 1;
            let sighting = Sighting { listener: listening.id, peer: Some(peer), at_us };
            let connection = *next;
            *next += 1;
            report(talk, &Event::Accepted { sighting: sighting.clone(), connection })?;
            if connections.len() >= MOST_CONNECTIONS || stream.set_nonblocking(true).is_err() {
                listening.lost += 1;
                continue;
            }
            let service = listening.service;
            let one = Connection { stream, service, sighting, search: Search::default() };
            connections.insert(connection, one);
        }
        if accepted >= BACKLOG / 2 {
            listening.lost += 1;
        }
        Ok(())
    }

    fn datagrams(&mut self, index: usize) -> io::Result<()> {
        let at_us = micros(self.started);
        let Self { listeners, heard, talk, buffer, .. } = self;
        let listening = &mut listeners[index];
        let Socket::Udp(socket, pending) = &listening.socket else { return Ok(()) };
        let (id, mut taken) = (listening.id, 0);
        // An error here belongs to an answer that came back as unreachable; the next turn goes on.
        while let Ok((length, peer)) = socket.recv_from(buffer) {
            taken += OVERHEAD + length;
            for nonce in Nonce::scan(&buffer[..length]) {
                let times = heard.entry((id, nonce.clone())).or_default();
                *times += 1;
                if *times > REPEATS {
                    continue;
                }
                // The sender may be gone; what it sent has been seen all the same.
                let _ = socket.send_to(nonce.as_str().as_bytes(), peer);
                let sighting = Sighting { listener: id, peer: Some(peer), at_us };
                report(talk, &Event::Saw { sighting, nonce, connection: None })?;
            }
            if taken > *pending {
                // Whoever sends without end waits for its turn like all others.
                break;
            }
        }
        if taken > pending / 2 {
            listening.lost += 1;
        }
        Ok(())
    }

    /// Reads what has come over a connection; whether it is still open.
    fn hear(&mut self, id: u64) -> io::Result<bool> {
        let at_us = micros(self.started);
        let Self { connections, talk, buffer, .. } = self;
        let Some(connection) = connections.get_mut(&id) else { return Ok(false) };
        let length = match connection.stream.read(buffer) {
            Ok(length @ 1..) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Ok(_) | Err(_) => return Ok(false),
        };
        for nonce in connection.take(&buffer[..length]) {
            let sighting = Sighting { at_us, ..connection.sighting.clone() };
            report(talk, &Event::Saw { sighting, nonce, connection: Some(id) })?;
        }
        Ok(true)
    }
}

impl Connection {
    /// Searches what was read, and answers each nonce in it.
    fn take(&mut self, bytes: &[u8]) -> Vec<Nonce> {
        let (nonces, text) = self.search.take(bytes);
        for nonce in &nonces {
            // The client may be gone; what it sent has been seen all the same.
            let _ = self.stream.write_all(self.service.answer(nonce, &text).as_bytes());
        }
        nonces
    }
}

/// Whether no file can be opened.
fn is_full(error: &io::Error) -> bool {
    let full = [Errno::EMFILE, Errno::ENFILE].map(|errno| Some(errno as i32));
    full.contains(&error.raw_os_error())
}

fn report(mut out: &StdStream, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    out.write_all(&line)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::prober::{Action, Attempt, Batch, Fuse, How, Request, Target};

    use super::super::probe;
    use super::*;
    use crate::probe::attempt::fresh_nonce;

    fn listener(id: u32, transport: Transport, address: &str, service: Service) -> Listener {
        Listener { id, transport, address: address.parse().unwrap(), service }
    }

    fn wanted(listeners: Vec<Vec<Listener>>) -> Wanted {
        Wanted { groups: listeners, sockets: Vec::new() }
    }

    fn address(opened: &Opened, id: u32) -> SocketAddr {
        opened.listening.iter().find(|(known, _)| *known == id).unwrap().1
    }

    fn attempt(id: u32, action: Action) -> Attempt {
        Attempt { id, nonce: fresh_nonce(), patience_ms: 5000, action }
    }

    fn target(address: SocketAddr) -> Target {
        Target { host: address.ip().to_string(), port: address.port() }
    }

    #[tokio::test]
    async fn whatever_is_sent_is_seen_answered_and_attributed() {
        let both = vec![
            listener(1, Transport::Tcp, "127.0.0.1:0", Service::Echo),
            listener(2, Transport::Udp, "127.0.0.1:0", Service::Echo),
        ];
        let http = vec![listener(3, Transport::Tcp, "127.0.0.1:0", Service::Http)];
        let (witness, opened) = open(&wanted(vec![both, http])).unwrap();
        let at = |id| address(&opened, id);
        assert_eq!(at(1).port(), at(2).port(), "a group has one port");
        let line = "GET /_ping".to_owned();
        let request = Request { target: target(at(3)), line, headers: vec!["A: b".into()] };
        let attempts = vec![
            attempt(1, Action::Tcp(target(at(1)))),
            attempt(2, Action::Udp(target(at(2)))),
            attempt(3, Action::Http(request)),
        ];
        let fuse = Fuse::Addresses(vec![at(1), at(3)]);
        let batch = Batch { token: fresh_nonce(), fuse, attempts };
        let answers = probe(&batch).await;
        let log = witness.drain().await;
        for one in &batch.attempts {
            let (word, _) = &answers.words[&one.id];
            assert_eq!(word.how, How::Answered, "{}", one.id);
            let peer = log.reached(&one.nonce, one.id).expect("seen by its listener");
            assert_eq!(peer, word.local);
            assert!(!log.lossy(&[one.id]));
        }
        assert_eq!(log.silent_accept(&[1, 3]), None);
        assert_eq!(log.broken, None);
    }

    #[tokio::test]
    async fn a_nonce_in_pieces_is_one_and_a_silent_connection_is_known() {
        let group = vec![listener(1, Transport::Tcp, "127.0.0.1:0", Service::Echo)];
        let (witness, opened) = open(&wanted(vec![group])).unwrap();
        let nonce = fresh_nonce();
        let mut spoken = TcpStream::connect(address(&opened, 1)).unwrap();
        for piece in nonce.as_str().as_bytes().chunks(7) {
            spoken.write_all(piece).unwrap();
            witness.drain().await;
        }
        let log = witness.drain().await;
        assert_eq!(log.seen[&nonce].len(), 1);
        assert_eq!(log.silent_accept(&[1]), None);
        let _silent = TcpStream::connect(address(&opened, 1)).unwrap();
        assert!(witness.drain().await.silent_accept(&[1]).is_some());
    }

    #[tokio::test]
    async fn what_comes_faster_than_it_is_surely_kept_counts_as_lost() {
        let group = vec![
            listener(1, Transport::Udp, "127.0.0.1:0", Service::Echo),
            listener(2, Transport::Tcp, "127.0.0.1:0", Service::Echo),
        ];
        let (witness, opened) = open(&wanted(vec![group])).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut log = witness.drain().await;
        assert!(!log.lossy(&[1, 2]));
        // It reads as fast as it can: what is sent in between must be more than it takes in one turn, some time.
        for _ in 0..200 {
            for _ in 0..1000 {
                sender.send_to(&[0; 1024], address(&opened, 1)).unwrap();
            }
            log = witness.drain().await;
            if log.lossy(&[1]) {
                break;
            }
        }
        assert!(log.lossy(&[1]));
        let open: Vec<_> = (0..=MOST_CONNECTIONS)
            .map(|_| TcpStream::connect(address(&opened, 2)).unwrap())
            .collect();
        assert!(witness.drain().await.lossy(&[2]), "{} are too many", open.len());
    }

    /// One in a hundred ports is somebody's over TCP, and of two hundred groups some are given one of these first.
    #[tokio::test]
    async fn a_group_gets_a_port_that_is_free_for_all_of_it() {
        let at = |id, transport| listener(id, transport, "127.0.0.1:0", Service::Echo);
        let groups =
            (0..200).map(|n| vec![at(2 * n, Transport::Udp), at(2 * n + 1, Transport::Tcp)]);
        let taken: Vec<_> =
            (0..300).filter_map(|_| TcpListener::bind("127.0.0.1:0").ok()).collect();
        let (_witness, opened) = open(&wanted(groups.collect())).unwrap();
        assert_eq!(opened.failed, [], "beside {} others", taken.len());
    }

    #[tokio::test]
    async fn what_cannot_be_opened_says_why_and_the_others_serve() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let holder = TcpListener::bind(taken).unwrap();
        let (witness, opened) = open(&wanted(vec![
            vec![listener(1, Transport::Tcp, &taken.to_string(), Service::Echo)],
            vec![listener(2, Transport::Tcp, "127.0.0.1:0", Service::Echo)],
            vec![listener(3, Transport::Icmp, "127.0.0.1:0", Service::Echo)],
        ]))
        .unwrap();
        let failed: Vec<_> = opened.failed.iter().map(|(id, _)| *id).collect();
        assert_eq!(failed, [1, 3]);
        assert!(opened.failed[0].1.contains("in use"), "{}", opened.failed[0].1);
        assert!(TcpStream::connect(address(&opened, 2)).is_ok());
        drop((witness, holder));
    }

    /// Nothing of it stays: neither the listeners nor the thread that holds them, whether or not all that it told was read.
    #[tokio::test]
    async fn it_ends_with_its_witness() {
        for is_drained in [true, false] {
            let group = vec![listener(1, Transport::Tcp, "127.0.0.1:0", Service::Echo)];
            let (witness, opened) = open(&wanted(vec![group])).unwrap();
            let address = address(&opened, 1);
            assert!(TcpStream::connect(address).is_ok());
            if is_drained {
                witness.drain().await;
            }
            drop(witness);
            let until = Instant::now() + Duration::from_secs(10);
            let is_closed = || {
                let connected = TcpStream::connect_timeout(&address, Duration::from_millis(100));
                connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            };
            while !is_closed() {
                assert!(Instant::now() < until, "it still listens");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
