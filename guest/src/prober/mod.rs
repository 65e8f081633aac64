//! The prober: makes every attempt of a batch at the same time, and tells how each ended. One that waits for an answer has a
//! thread to itself.
//!
//! Threads rather than one poll loop, since a guest's network may ignore `O_NONBLOCK`: an attempt that does not
//! come back in time is given up, and the others are not held up by it.

mod address;
mod dial;
pub(crate) mod escape;
mod established;
mod fast_open;
mod foreign;
mod frame;
mod fuse;
mod hold;
mod http;
mod icmp;
mod inherited;
mod listen;
mod lookup;
mod mptcp;
mod multicast;
mod proxied;
mod raw_udp;
mod reconfigure;
mod sweep;
mod tcp;
mod udp;
mod udp_unconnected;
mod unix;
mod vsock;

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use claude_bottle_protocol::prober::{Action, Attempt, Batch, How, Line, Word};

use nix::sys::socket::SockType::{Datagram, Stream};

use self::fuse::Guard;
use self::hold::Release;
use crate::sys::descriptors;

/// The longest batch in bytes.
const LONGEST_BATCH: u64 = 16 * 1024 * 1024;
/// How many attempts run at the same time; further ones wait for one to end.
const AT_ONCE: usize = 384;
/// With how many threads the prober begins.
const AT_FIRST: usize = 4;
/// After which time without any result it takes more.
const STANDSTILL: Duration = Duration::from_millis(2);
/// A thread's stack in bytes.
const STACK: usize = 64 * 1024;
/// How much longer than its patience an attempt may block before it is given up.
const GRACE: Duration = Duration::from_millis(500);

/// What every attempt may use.
#[derive(Clone)]
pub(crate) struct Means {
    guard: Arc<Guard>,
    /// The sockets that were open when this process began, besides its standard streams.
    inherited: Arc<Vec<OwnedFd>>,
    release: Release,
}

/// How an attempt tells that it waits for the outside.
struct Ready<'a> {
    id: u32,
    sender: &'a Sender<Told>,
}

impl Ready<'_> {
    fn tell(&self, port: Option<u16>) {
        // Without a receiver the prober is ending.
        let _ = self.sender.send(Told::Ready { id: self.id, port });
    }
}

/// What an attempt's thread tells.
enum Told {
    /// It waits for the outside.
    Ready { id: u32, port: Option<u16> },
    /// It has ended.
    Done(Done),
}

/// An attempt that has ended.
struct Done {
    id: u32,
    word: Word,
    took: Duration,
}

/// An attempt on its way, shared between the threads.
type Queue = Arc<Mutex<std::vec::IntoIter<Attempt>>>;

/// Reads a batch from standard input, makes its attempts, writes lines to standard output.
pub(crate) fn run() -> ExitCode {
    // Before anything else opens one.
    let inherited = descriptors::inherited_sockets();
    let mut line = String::new();
    let read = io::stdin().lock().take(LONGEST_BATCH).read_line(&mut line);
    let batch: Batch =
        match read.map_err(serde_json::Error::io).and_then(|_| serde_json::from_str(&line)) {
            Ok(batch) => batch,
            Err(error) => {
                eprintln!("prober: no batch on standard input: {error}");
                return ExitCode::from(2);
            }
        };
    drop(line);
    match make(batch, inherited) {
        // Without waiting for threads that are stuck in a system call.
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("prober: {error}");
            std::process::exit(1)
        }
    }
}

fn make(batch: Batch, inherited: Vec<OwnedFd>) -> io::Result<()> {
    let netns = fuse::own_namespace();
    let mut out = io::stdout().lock();
    let hello =
        Line::Hello { version: claude_bottle_protocol::VERSION.into(), token: batch.token, netns };
    say(&mut out, &hello)?;
    out.flush()?;

    let release = Release::watch_input()?;
    let guard = Arc::new(Guard::new(batch.fuse, netns));
    let means = Means { guard, inherited: Arc::new(inherited), release };
    let mut pending: Vec<(u32, Duration)> = Vec::new();
    let mut longest = Duration::ZERO;
    for attempt in &batch.attempts {
        let patience = Duration::from_millis(u64::from(attempt.patience_ms));
        pending.push((attempt.id, patience));
        longest = longest.max(patience);
    }
    let rounds = u32::try_from(batch.attempts.len().div_ceil(AT_ONCE)).unwrap_or(u32::MAX);
    let until = Instant::now() + (longest + GRACE).saturating_mul(rounds.max(1));

    let (sender, receiver) = mpsc::channel();
    let mut crew = Crew::start(batch.attempts, means, sender)?;
    let attempts = collect(&mut out, &receiver, &mut crew, &mut pending, until)?;
    say(&mut out, &Line::Bye { attempts })?;
    out.flush()
}

/// The threads that make the attempts: each takes them off the queue until it is empty.
///
/// Most attempts end at once, and a thread each would cost more than they do. So there are a few at first, and twice as
/// many whenever nothing has ended for a while: those that there are wait for an answer then.
struct Crew {
    queue: Queue,
    means: Means,
    /// Gone once there is nothing left to start: that all threads have ended is known then.
    sender: Option<Sender<Told>>,
    threads: usize,
    most: usize,
}

impl Crew {
    fn start(attempts: Vec<Attempt>, means: Means, sender: Sender<Told>) -> io::Result<Self> {
        let most = attempts.len().min(AT_ONCE);
        let queue: Queue = Arc::new(Mutex::new(attempts.into_iter()));
        let mut crew = Self { queue, means, sender: Some(sender), threads: 0, most };
        crew.grow()?;
        Ok(crew)
    }

    /// Whether more threads would be of use.
    fn may_grow(&mut self) -> bool {
        let left = self.queue.lock().unwrap_or_else(PoisonError::into_inner).len();
        if left == 0 || self.threads >= self.most {
            self.sender = None;
        }
        self.sender.is_some()
    }

    fn grow(&mut self) -> io::Result<()> {
        self.grow_to((2 * self.threads).max(AT_FIRST))
    }

    /// Takes one more, in the place of one whose attempt holds.
    fn stand_in(&mut self) -> io::Result<()> {
        if self.may_grow() { self.grow_to(self.threads + 1) } else { Ok(()) }
    }

    fn grow_to(&mut self, wanted: usize) -> io::Result<()> {
        let wanted = self.most.min(wanted);
        while let Some(sender) = self.sender.clone().filter(|_| self.threads < wanted) {
            let (queue, means) = (Arc::clone(&self.queue), self.means.clone());
            let work = move || {
                while let Some(attempt) = take(&queue) {
                    let begun = Instant::now();
                    let ready = Ready { id: attempt.id, sender: &sender };
                    let word = attempt_one(&attempt, &ready, &means);
                    let done = Done { id: attempt.id, word, took: begun.elapsed() };
                    if sender.send(Told::Done(done)).is_err() {
                        return;
                    }
                }
            };
            match std::thread::Builder::new().stack_size(STACK).spawn(work) {
                Ok(_) => self.threads += 1,
                // A limit on threads: those that there are do the work.
                Err(_) if self.threads > 0 => self.most = self.threads,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn take(queue: &Queue) -> Option<Attempt> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// Writes results as they come; what has not come by `until` is given up.
fn collect(
    out: &mut impl io::Write,
    receiver: &Receiver<Told>,
    crew: &mut Crew,
    pending: &mut Vec<(u32, Duration)>,
    until: Instant,
) -> io::Result<u32> {
    let mut attempts = 0;
    while !pending.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let patience = if crew.may_grow() { left.min(STANDSTILL) } else { left };
        let told = match receiver.recv_timeout(patience) {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout) if patience < left => {
                crew.grow()?;
                continue;
            }
            Err(_) => break,
        };
        // All that is there goes out in one write.
        for told in std::iter::once(told).chain(receiver.try_iter()) {
            match told {
                Told::Ready { id, port } => {
                    say(out, &Line::Ready { id, port })?;
                    crew.stand_in()?;
                }
                Told::Done(Done { id, word, took }) => {
                    pending.retain(|(pending, _)| *pending != id);
                    attempts += 1;
                    say(out, &done(id, word, took))?;
                }
            }
        }
        out.flush()?;
    }
    for (id, patience) in pending.drain(..) {
        let word = Word {
            detail: Some("still blocked in a system call when it was given up".into()),
            ..Word::new(How::TimedOut)
        };
        attempts += 1;
        say(out, &done(id, word, patience + GRACE))?;
    }
    Ok(attempts)
}

fn done(id: u32, word: Word, took: Duration) -> Line {
    Line::Done { id, word, took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX) }
}

fn say(out: &mut impl io::Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn attempt_one(attempt: &Attempt, ready: &Ready<'_>, means: &Means) -> Word {
    let until = Instant::now() + Duration::from_millis(u64::from(attempt.patience_ms));
    match &attempt.action {
        Action::Tcp(target) => tcp::attempt(target, &attempt.nonce, until, means),
        Action::Http(request) => http::attempt(request, &attempt.nonce, until, means),
        Action::Udp(target) => udp::attempt(target, &attempt.nonce, until, means),
        Action::TcpFastOpen(target) => fast_open::attempt(target, &attempt.nonce, until, means),
        Action::Mptcp(target) => mptcp::attempt(target, &attempt.nonce, until, means),
        Action::UdpUnconnected(target) => {
            udp_unconnected::attempt(target, &attempt.nonce, until, means)
        }
        Action::Multicast(target) => multicast::attempt(target, &attempt.nonce, means),
        Action::PingSocket(target) => {
            icmp::attempt(icmp::Kind::Ping, target, &attempt.nonce, until, means)
        }
        Action::RawIcmp(target) => {
            icmp::attempt(icmp::Kind::Raw, target, &attempt.nonce, until, means)
        }
        Action::RawUdp(target) => raw_udp::attempt(target, &attempt.nonce, means),
        Action::Frame(target) => frame::attempt(frame::plain, target, &attempt.nonce, until, means),
        Action::UringFrame(target) => {
            frame::attempt(frame::by_io_uring, target, &attempt.nonce, until, means)
        }
        Action::Frame32(target) => frame::attempt_32_bit(target, &attempt.nonce, means),
        Action::ForgedArp(target) => frame::attempt_arp(target, &attempt.nonce, until, means),
        Action::Idle => Word::new(How::Answered),
        Action::DnsUdp(lookup) => lookup::attempt(lookup, Datagram, &attempt.nonce, until, means),
        Action::DnsTcp(lookup) => lookup::attempt(lookup, Stream, &attempt.nonce, until, means),
        Action::UnixAbstract(name) => unix::abstract_socket(name, &attempt.nonce, until),
        Action::UnixPath(paths) => unix::paths(paths, &attempt.nonce, until),
        Action::InheritedTcp(wanted) => {
            inherited::attempt(wanted, Stream, &attempt.nonce, until, means)
        }
        Action::InheritedUdp(wanted) => {
            inherited::attempt(wanted, Datagram, &attempt.nonce, until, means)
        }
        Action::EstablishedTcp(wanted) => {
            established::attempt(wanted, &attempt.nonce, until, means)
        }
        Action::Vsock(port) => vsock::attempt(*port, &attempt.nonce, until, means),
        Action::ForeignSockets => foreign::attempt(ready, until, &means.release),
        Action::Listen => listen::attempt(ready, until, &means.release),
        Action::Sweep(ports) => sweep::attempt(ports, &attempt.nonce, until, means),
        Action::Reconfigure(_) if !means.guard.permits_changes() => Word::new(How::Fused),
        Action::Reconfigure(change) => reconfigure::attempt(*change),
        Action::Unshare => escape::unshared(ready, until, &means.release),
        Action::EnterNamespace(_) | Action::StealSocket(_) if !means.guard.permits_changes() => {
            Word::new(How::Fused)
        }
        Action::EnterNamespace(target) => escape::entered(target, &attempt.nonce, until, means),
        Action::StealSocket(target) => escape::stolen(target, &attempt.nonce, means),
        Action::Proxied(asked) => proxied::attempt(asked, &attempt.nonce, until, means),
    }
}
