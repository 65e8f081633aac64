//! The session: the process inside a bottle that starts commands and carries their streams.
//!
//! One thread, one loop over everything that can happen. It may be PID 1 of the bottle's PID namespace; everywhere
//! else it is the subreaper of what it starts. Either way it reaps every orphan, and when the launcher closes its
//! standard input, nothing of what it started is left.

mod command;
mod input;
mod strays;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use claude_bottle_protocol::VERSION;
use claude_bottle_protocol::session::{End, Ended, Hello, Kind, Start};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use self::command::{Command, Stream};
use self::wire::{Incoming, Outgoing, Stop, failed};
use crate::sys::child;
use crate::sys::reap::{self, Exit};

/// The most commands at a time; one more is answered with `EAGAIN`.
const MOST: usize = 4096;

/// The running program, whatever has become of its file.
const RUNNING: &str = "/proc/self/exe";

/// `session [--toolbox PATH | --remove PATH]`: PATH is what the launcher is told to be the toolbox's path in here, or
/// the toolbox's own file, which is not needed any more.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let toolbox = match arguments {
        [] => own_path(),
        [option, path] if option == "--toolbox" => path.clone(),
        [option, path] if option == "--remove" => return fleeting(path),
        _ => {
            eprintln!("toolbox: session [--toolbox PATH | --remove PATH]");
            return ExitCode::from(2);
        }
    };
    in_bottle(&toolbox, 0)
}

/// Removes the toolbox's file at once, so that it is gone however this ends; without `/proc`, at the end.
fn fleeting(path: &str) -> ExitCode {
    // Whoever cannot remove it may leave it: it was put there for this.
    if std::fs::metadata(RUNNING).is_ok() {
        let _ = std::fs::remove_file(path);
        return in_bottle(RUNNING, 0);
    }
    let ended = in_bottle(path, 0);
    let _ = std::fs::remove_file(path);
    ended
}

/// As [`run`]; the commands inherit the `left_open` descriptors from 3 on.
pub(crate) fn in_bottle(toolbox: &str, left_open: usize) -> ExitCode {
    let stop = match Session::open(toolbox, left_open) {
        Ok(mut session) => {
            let stop = session.serve();
            session.end();
            stop
        }
        Err(stop) => stop,
    };
    if matches!(stop, Stop::Closed) {
        return ExitCode::SUCCESS;
    }
    eprintln!("toolbox: session: {stop}");
    ExitCode::FAILURE
}

fn own_path() -> String {
    let path = std::fs::read_link("/proc/self/exe").ok();
    let path = path.or_else(|| std::env::args_os().next().map(Into::into));
    path.unwrap_or_default().to_string_lossy().into_owned()
}

/// What has happened.
enum Happened {
    /// The launcher has sent something, or is gone.
    Input,
    /// A child has ended.
    Child,
    /// A stream of the command on this channel can be read or written.
    Stream(u32, Stream),
}

struct Session {
    incoming: Incoming,
    outgoing: Outgoing,
    children: SignalFd,
    commands: BTreeMap<u32, Command>,
}

impl Session {
    fn open(toolbox: &str, left_open: usize) -> Result<Self, Stop> {
        // The commands must neither trace this process nor take its descriptors from /proc.
        prctl::set_dumpable(false).map_err(failed("become undumpable"))?;
        child::keep_descriptors(left_open);
        // Old kernels and strict filters: then orphans go to the bottle's own init.
        let _ = prctl::set_child_subreaper(true);
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block().map_err(failed("block SIGCHLD"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&signals, flags).map_err(failed("make a signalfd"))?;
        let hello = Hello { version: VERSION.to_owned(), toolbox: toolbox.to_owned() };
        let sink = io::stdout().as_fd().try_clone_to_owned();
        let sink = sink.map_err(|_| failed("keep standard output")(nix::Error::last()))?;
        let outgoing = Outgoing::new(sink);
        outgoing.send_json(Kind::Hello, 0, &hello)?;
        let incoming = Incoming::new();
        Ok(Self { incoming, outgoing, children, commands: BTreeMap::new() })
    }

    /// Serves the launcher until there is a reason to stop.
    fn serve(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.turn() {
                return stop;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Stop> {
        for happened in self.wait()? {
            match happened {
                Happened::Input => {
                    self.incoming.fill(io::stdin().as_fd())?;
                    while let Some((kind, channel, payload)) = self.incoming.next()? {
                        self.obey(kind, channel, &payload)?;
                    }
                }
                Happened::Child => self.reap(),
                Happened::Stream(channel, stream) => self.carry(channel, stream)?,
            }
        }
        self.report()
    }

    /// Waits until something happens, or a deadline passes.
    fn wait(&self) -> Result<Vec<Happened>, Stop> {
        let stdin = io::stdin();
        let mut what = vec![Happened::Input, Happened::Child];
        let mut fds = vec![
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        for (channel, command) in &self.commands {
            for (stream, fd, events) in command.wants() {
                what.push(Happened::Stream(*channel, stream));
                fds.push(PollFd::new(fd, events));
            }
        }
        let deadline = self.commands.values().filter_map(Command::deadline).min();
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up: poll counts milliseconds, and waking early would mean turning round in vain.
            let left =
                deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => return Ok(Vec::new()),
            Err(source) => return Err(failed("wait")(source)),
        }
        let ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        Ok(what.into_iter().zip(ready).filter_map(|(what, ready)| ready.then_some(what)).collect())
    }

    /// Does what a frame says. Frames for a command that is gone may have been on their way: they are ignored.
    fn obey(&mut self, kind: Kind, channel: u32, payload: &[u8]) -> Result<(), Stop> {
        if kind == Kind::Start {
            return self.start(channel, payload);
        }
        let command = self.commands.get_mut(&channel);
        match kind {
            Kind::Stdin => {
                let taken = command.map_or(Ok(0), |command| command.input().push(payload))?;
                self.send_taken(channel, taken)?;
            }
            Kind::StdinEnd => {
                if let Some(command) = command {
                    command.input().end();
                }
            }
            Kind::Signal => {
                let [number] = payload else {
                    return Err(Stop::Malformed("a signal that is not one byte"));
                };
                if let (Some(command), Ok(signal)) = (command, Signal::try_from(i32::from(*number)))
                {
                    command.signal(signal);
                }
            }
            Kind::Resize => {
                let [r0, r1, c0, c1] = *payload else {
                    return Err(Stop::Malformed("a size that is not four bytes"));
                };
                if let Some(command) = command {
                    command.resize(u16::from_le_bytes([r0, r1]), u16::from_le_bytes([c0, c1]));
                }
            }
            Kind::Taken => {
                let Ok(count) = payload.try_into() else {
                    return Err(Stop::Malformed("a count that is not four bytes"));
                };
                if let Some(command) = command {
                    command.taken(u32::from_le_bytes(count));
                }
            }
            Kind::Abandon => {
                if let Some(command) = command {
                    command.abandon();
                }
            }
            Kind::Start | Kind::Hello | Kind::Stdout | Kind::Stderr | Kind::Ended => {
                return Err(Stop::Malformed("a frame that only a session sends"));
            }
        }
        Ok(())
    }

    fn start(&mut self, channel: u32, payload: &[u8]) -> Result<(), Stop> {
        let start: Start = serde_json::from_slice(payload)
            .map_err(|_| Stop::Malformed("a command that cannot be read"))?;
        if self.commands.contains_key(&channel) {
            return Err(Stop::Malformed("a command on a channel that has one"));
        }
        let started = if self.commands.len() < MOST {
            Command::start(channel, &start)
        } else {
            let what = format!("more than {MOST} commands");
            Err(End::NotStarted { errno: nix::Error::EAGAIN as i32, what })
        };
        match started {
            Ok(command) => {
                self.commands.insert(channel, command);
                Ok(())
            }
            Err(end) => {
                let ended = Ended { end, stdout_cut: 0, stderr_cut: 0 };
                self.outgoing.send_json(Kind::Ended, channel, &ended)
            }
        }
    }

    fn carry(&mut self, channel: u32, stream: Stream) -> Result<(), Stop> {
        let Some(command) = self.commands.get_mut(&channel) else {
            return Ok(());
        };
        match stream {
            Stream::Input => {
                let taken = command.input().write();
                self.send_taken(channel, taken)
            }
            Stream::Output | Stream::Error => command.read(stream, &mut self.outgoing),
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        while let Ok(Some((pid, exit))) = reap::next() {
            self.exited(pid, exit);
        }
    }

    /// Takes note of a command's exit; of an orphan's there is nothing to note.
    fn exited(&mut self, pid: Pid, exit: Exit) {
        let end = match exit {
            Exit::Code(code) => End::Code(code),
            Exit::Signal(signal) => End::Signal(signal),
        };
        if let Some(command) = self.commands.values_mut().find(|command| command.pid() == pid) {
            command.exited(end);
        }
    }

    /// Reports the commands that have ended.
    fn report(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        let ended = self.commands.iter();
        let ended = ended.filter_map(|(channel, command)| Some((*channel, command.ended(now)?)));
        for (channel, ended) in ended.collect::<Vec<_>>() {
            self.commands.remove(&channel);
            self.outgoing.send_json(Kind::Ended, channel, &ended)?;
        }
        Ok(())
    }

    /// Tells the launcher that `count` bytes of a command's input have been taken, if any have.
    fn send_taken(&self, channel: u32, count: usize) -> Result<(), Stop> {
        match u32::try_from(count) {
            Ok(0) | Err(_) => Ok(()),
            Ok(count) => self.outgoing.send(Kind::Taken, channel, &count.to_le_bytes()),
        }
    }

    /// Ends everything that was started.
    fn end(&mut self) {
        for command in self.commands.values() {
            command.signal(Signal::SIGKILL);
        }
        self.commands.clear();
        strays::end(&self.children);
    }
}
