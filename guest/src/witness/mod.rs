//! The witness: records every nonce that arrives at the lab's listeners, and from whom.
//!
//! One thread, one poll loop over all sockets. It answers what it saw with the same nonce, so that a client can tell
//! the witness from something that merely accepts.

mod alone;
mod connection;
mod frames;
pub(crate) mod listener;
pub(crate) mod raw;
mod resolver;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::witness::{Event, Lost, Order, Service, Sighting};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(crate) use self::alone::alone;
use self::connection::{Connection, Stream};
use self::listener::Socket;
use self::resolver::Resolver;
use crate::sys::{drops, socket};

/// The most connections that are open at once; one more is closed unread and counted as lost.
const MOST_CONNECTIONS: usize = 4096;
/// The longest datagram that is looked at.
const DATAGRAM: usize = 64 * 1024;

/// How often one nonce is reported and answered per datagram listener. A datagram that seems to come from a listener (its
/// socket was stolen, or its address forged) would otherwise be answered for ever.
const REPEATS: u32 = 8;

struct Witness {
    started: Instant,
    sockets: Vec<(u32, Socket)>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Connections that the witness itself turned away, per listener.
    turned_away: BTreeMap<u32, u64>,
    resolver: Resolver,
    /// Where a datagram is read to.
    buffer: Vec<u8>,
    /// How often each nonce came to a datagram listener.
    heard: BTreeMap<(u32, Nonce), u32>,
    /// Flushed once per turn: each line of its own would wake the launcher.
    out: BufWriter<io::Stdout>,
}

/// Serves `sockets` until standard input ends. Orders come in there, events go to standard output.
pub(crate) fn serve(sockets: Vec<(u32, Socket)>) -> ExitCode {
    let mut witness = Witness {
        started: Instant::now(),
        sockets,
        connections: BTreeMap::new(),
        next_connection: 0,
        turned_away: BTreeMap::new(),
        resolver: Resolver::default(),
        buffer: vec![0; DATAGRAM],
        heard: BTreeMap::new(),
        out: BufWriter::new(io::stdout()),
    };
    match witness.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("witness: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Witness {
    fn run(&mut self) -> io::Result<()> {
        for (id, socket) in &self.sockets {
            for (listener, address) in socket.listeners(*id).map_err(io::Error::other)? {
                let Some(address) = address else { continue };
                report(&mut self.out, &Event::Listening { listener, address })?;
            }
        }
        self.out.flush()?;
        let mut orders = Vec::new();
        loop {
            let turn = self.turn(PollTimeout::NONE)?;
            if !turn.order {
                continue;
            }
            let mut buffer = [0; 4096];
            let length = io::stdin().read(&mut buffer)?;
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

    /// Handles whatever is ready on any socket.
    fn turn(&mut self, patience: PollTimeout) -> io::Result<Turn> {
        let stdin = io::stdin();
        let mut fds = vec![watch(stdin.as_fd())];
        fds.extend(self.sockets.iter().map(|(_, socket)| watch(socket.as_fd())));
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        fds.extend(self.connections.values().map(|connection| watch(connection.as_fd())));
        match poll(&mut fds, patience) {
            Err(nix::Error::EINTR) => return Ok(Turn::default()),
            answered => answered?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        let (order, sockets) = (ready[0], self.sockets.len());
        for index in (0..sockets).filter(|index| ready[1 + index]) {
            self.arrivals(index)?;
        }
        for (index, id) in ids.into_iter().enumerate() {
            if ready[1 + sockets + index] {
                self.hear(id)?;
            }
        }
        self.out.flush()?;
        Ok(Turn { order, any: ready[1..].contains(&true) })
    }

    /// Reports all that had arrived, then what was lost.
    fn drain(&mut self) -> io::Result<()> {
        while self.turn(PollTimeout::ZERO)?.any {}
        let mut lost = Vec::new();
        for (id, socket) in &self.sockets {
            let dropped = drops::of(socket.as_fd())?;
            for (listener, _) in socket.listeners(*id).map_err(io::Error::other)? {
                let turned_away = self.turned_away.get(&listener).copied().unwrap_or(0);
                lost.push(Lost { listener, drops: dropped + turned_away });
            }
        }
        report(&mut self.out, &Event::Drained { lost })?;
        self.out.flush()
    }

    fn arrivals(&mut self, index: usize) -> io::Result<()> {
        let (id, socket) = &self.sockets[index];
        match socket {
            Socket::Tcp(listener, service) => {
                let (id, service, accepted) = (*id, *service, accept_all(listener));
                for (stream, peer) in accepted {
                    self.accepted(id, service, stream, Some(peer))?;
                }
                Ok(())
            }
            Socket::Udp(socket, service) => {
                let (id, service, socket) = (*id, *service, socket.try_clone()?);
                self.datagrams(id, service, &socket)
            }
            Socket::Unix(listener) => {
                let (id, accepted) = (*id, accept_all_unix(listener));
                for stream in accepted {
                    self.accepted(id, Service::Echo, stream, None)?;
                }
                Ok(())
            }
            Socket::Vsock(listener) => {
                let (id, accepted) = (*id, accept_all_vsock(listener));
                for stream in accepted {
                    self.accepted(id, Service::Echo, stream, None)?;
                }
                Ok(())
            }
            Socket::Raw(socket) => {
                let (id, heard) = (*id, socket.hear());
                self.saw(heard.into_iter().map(|(nonce, peer)| (id, nonce, peer)))
            }
            Socket::Frames(socket) => {
                let heard = socket.hear();
                self.saw(heard.into_iter().map(|(id, nonce)| (id, nonce, None)))
            }
        }
    }

    fn accepted(
        &mut self,
        listener: u32,
        service: Service,
        stream: Box<dyn Stream>,
        peer: Option<SocketAddr>,
    ) -> io::Result<()> {
        let sighting = self.sighting(listener, peer);
        let connection = self.next_connection;
        self.next_connection += 1;
        report(&mut self.out, &Event::Accepted { sighting: sighting.clone(), connection })?;
        if self.connections.len() >= MOST_CONNECTIONS {
            *self.turned_away.entry(listener).or_default() += 1;
            return Ok(());
        }
        self.connections.insert(connection, Connection::new(stream, service, sighting));
        // What came with the handshake is there already.
        self.hear(connection)
    }

    /// Reads what a connection has sent; forgets it at its end.
    fn hear(&mut self, id: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let (nonces, open) = connection.hear(&mut self.resolver);
        let (listener, peer) = (connection.sighting.listener, connection.sighting.peer);
        for nonce in nonces {
            let at_us = micros(self.started);
            let sighting = Sighting { listener, peer, at_us };
            report(&mut self.out, &Event::Saw { sighting, nonce, connection: Some(id) })?;
        }
        if !open {
            self.connections.remove(&id);
        }
        Ok(())
    }

    fn datagrams(&mut self, listener: u32, service: Service, socket: &UdpSocket) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        // An error reported here belongs to an answer that came back as unreachable; the next read goes on.
        while let Ok(received) = connection::receive_datagram(socket, &mut buffer) {
            let payload = &buffer[..received.length];
            let answer = match service {
                Service::Resolver => self.resolver.answer(payload),
                Service::Echo | Service::Segment | Service::Http => None,
            };
            for nonce in Nonce::scan(payload).collect::<Vec<_>>() {
                let times = self.heard.entry((listener, nonce.clone())).or_default();
                *times += 1;
                if *times > REPEATS {
                    continue;
                }
                let sighting = self.sighting(listener, Some(received.peer));
                let event = Event::Saw { sighting, nonce: nonce.clone(), connection: None };
                report(&mut self.out, &event)?;
                if answer.is_none() {
                    received.answer(socket, nonce.as_str().as_bytes());
                }
            }
            if let Some(answer) = answer {
                received.answer(socket, &answer);
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Reports nonces that came to listeners without a connection.
    fn saw(
        &mut self,
        heard: impl Iterator<Item = (u32, Nonce, Option<SocketAddr>)>,
    ) -> io::Result<()> {
        for (listener, nonce, peer) in heard {
            let sighting = self.sighting(listener, peer);
            report(&mut self.out, &Event::Saw { sighting, nonce, connection: None })?;
        }
        Ok(())
    }

    fn sighting(&self, listener: u32, peer: Option<SocketAddr>) -> Sighting {
        Sighting { listener, peer, at_us: micros(self.started) }
    }
}

/// What one turn of the loop met.
#[derive(Default)]
struct Turn {
    /// Standard input is readable.
    order: bool,
    /// Any socket was.
    any: bool,
}

fn watch(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

fn accept_all(listener: &TcpListener) -> Vec<(Box<dyn Stream>, SocketAddr)> {
    // An error other than "none left" is a connection that is gone again; the next poll goes on.
    std::iter::from_fn(|| listener.accept().ok())
        .map(|(stream, peer)| {
            // A failure shows as a blocking read of bytes that are there.
            let _ = stream.set_nonblocking(true);
            (Box::new(stream) as Box<dyn Stream>, peer)
        })
        .collect()
}

/// Of a Unix socket's client there is no address to tell.
fn accept_all_unix(listener: &UnixListener) -> Vec<Box<dyn Stream>> {
    std::iter::from_fn(|| listener.accept().ok())
        .map(|(stream, _)| {
            let _ = stream.set_nonblocking(true);
            Box::new(stream) as Box<dyn Stream>
        })
        .collect()
}

/// Who a vsock client is, is a number of a virtual machine, and always our own.
fn accept_all_vsock(listener: &OwnedFd) -> Vec<Box<dyn Stream>> {
    std::iter::from_fn(|| socket::accept(listener.as_fd()).ok())
        .map(|stream| Box::new(File::from(stream)) as Box<dyn Stream>)
        .collect()
}

fn report(out: &mut impl io::Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    out.write_all(b"\n")
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
