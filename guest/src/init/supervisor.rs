//! The loop: waits for signals, output, questions and deadlines, and acts on them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use claude_bottle_protocol::VERSION;
use claude_bottle_protocol::daemons::{Entry, SUPERVISE};
use claude_bottle_protocol::news::{News, Then, What};
use claude_bottle_protocol::session::End;
use claude_bottle_protocol::supervise::{self, State, Status};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpid};
use thiserror::Error;

use super::answering::Answering;
use super::complain;
use super::knock::Knock;
use super::life::{Life, Next, TOO_OFTEN};
use super::log::Log;
use super::options::Options;
use super::process::{Stream, nothing, start};
use super::stopping::Stopping;
use crate::sys::{children, descriptors};

/// The init cannot start.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("cannot {what}")]
    System { what: &'static str, source: Errno },
    #[error("cannot answer at {path}")]
    Answering { path: PathBuf, source: io::Error },
}

impl StartError {
    fn system(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::System { what, source }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::System { .. } => 1,
            // Selected, so that it is the caller's to change.
            Self::Answering { .. } => 2,
        }
    }
}

/// Blocks the signals that the init lives by, and makes them readable.
pub(crate) fn signals() -> Result<SignalFd, StartError> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block().map_err(StartError::system("block signals"))?;
    children::report_children().map_err(StartError::system("reset SIGCHLD"))?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(StartError::system("make a signalfd"))
}

/// One daemon and all that belongs to it.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) name: String,
    entry: Entry,
    pub(super) life: Life,
    pub(super) knock: Option<Knock>,
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
}

/// What a descriptor that is ready belongs to.
#[derive(Debug, Clone, Copy)]
enum Ready {
    Signals,
    Log,
    Asker,
    Stdout(usize),
    Stderr(usize),
    Knock(usize),
}

/// The bundle's init.
#[derive(Debug)]
pub(crate) struct Supervisor {
    signals: SignalFd,
    pub(super) log: Log,
    answering: Option<Answering>,
    nothing: OwnedFd,
    pub(super) daemons: Vec<Daemon>,
    /// How many daemons come before [`SUPERVISE`] in the selection, if it is selected.
    supervise_after: Option<usize>,
    began: Instant,
    pub(super) grace: Duration,
    pub(super) stopping: Option<Stopping>,
}

impl Supervisor {
    /// Prepares everything; starts nothing yet.
    pub(crate) fn new(options: Options, signals: SignalFd) -> Result<Self, StartError> {
        let now = Instant::now();
        // On an old kernel the daemons get what the init got.
        let _ = descriptors::keep_from_children();
        let supervise_after = options.selected.iter().position(|one| one.entry.is_none());
        if getpid() != Pid::from_raw(1) {
            set_child_subreaper(true).map_err(StartError::system("adopt orphans"))?;
        }
        let answering = match Answering::at(&options.socket) {
            Ok(answering) => Some(answering),
            Err(source) => {
                let error = StartError::Answering { path: options.socket, source };
                if supervise_after.is_some() {
                    return Err(error);
                }
                // A read-only root: the daemons can run without it.
                complain("init", &error);
                None
            }
        };
        let mut daemons = Vec::new();
        for selected in options.selected {
            let Some(entry) = selected.entry else {
                continue;
            };
            let pipe = || Stream::new().map_err(StartError::system("make a pipe"));
            daemons.push(Daemon {
                name: selected.name,
                entry,
                life: Life::new(now, options.first_pause),
                knock: None,
                stdout: pipe()?,
                stderr: pipe()?,
            });
        }
        Ok(Self {
            signals,
            log: Log::on_standard_output(),
            answering,
            nothing: nothing().map_err(StartError::system("open an empty input"))?,
            daemons,
            supervise_after,
            began: now,
            grace: options.grace,
            stopping: None,
        })
    }

    /// Runs until it has been told to stop and everything has ended.
    pub(crate) fn run(mut self) {
        if self.daemons.is_empty() && self.supervise_after.is_none() {
            self.log.say("no daemons selected");
        }
        while !self.stopping.as_ref().is_some_and(|stopping| stopping.over) {
            self.keep_deadlines(Instant::now());
            self.log.flush();
            for ready in self.wait() {
                self.act(ready);
            }
        }
        self.finish();
    }

    fn act(&mut self, ready: Ready) {
        match ready {
            Ready::Signals => self.hear_signals(),
            Ready::Log => self.log.flush(),
            Ready::Asker => {
                if let Some(answering) = &self.answering {
                    answering.answer(&self.status());
                }
            }
            Ready::Stdout(index) => {
                let daemon = &mut self.daemons[index];
                daemon.stdout.pass_on(&daemon.name, &mut self.log);
            }
            Ready::Stderr(index) => {
                let daemon = &mut self.daemons[index];
                daemon.stderr.pass_on(&daemon.name, &mut self.log);
            }
            Ready::Knock(index) => {
                if self.daemons[index].knock.as_mut().is_some_and(Knock::settle) {
                    self.listens(index);
                }
            }
        }
    }

    /// Waits until something is ready or a deadline has come.
    fn wait(&self) -> Vec<Ready> {
        let mut waited_for = vec![(Ready::Signals, self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(log) = self.log.blocked_on() {
            waited_for.push((Ready::Log, log, PollFlags::POLLOUT));
        }
        if let Some(answering) = &self.answering {
            waited_for.push((Ready::Asker, answering.listener(), PollFlags::POLLIN));
        }
        for (index, daemon) in self.daemons.iter().enumerate() {
            waited_for.push((Ready::Stdout(index), daemon.stdout.reader(), PollFlags::POLLIN));
            waited_for.push((Ready::Stderr(index), daemon.stderr.reader(), PollFlags::POLLIN));
            if let Some(pending) = daemon.knock.as_ref().and_then(Knock::pending) {
                waited_for.push((Ready::Knock(index), pending, PollFlags::POLLOUT));
            }
        }
        let mut polled: Vec<PollFd<'_>> =
            waited_for.iter().map(|&(_, fd, events)| PollFd::new(fd, events)).collect();
        if poll(&mut polled, self.timeout(Instant::now())).is_err() {
            // EINTR, or ENOMEM: try again.
            return Vec::new();
        }
        let ready = waited_for.iter().zip(&polled).filter(|(_, fd)| fd.any() != Some(false));
        ready.map(|(&(ready, _, _), _)| ready).collect()
    }

    /// The time until the next deadline.
    fn timeout(&self, now: Instant) -> PollTimeout {
        let of_daemons = self.daemons.iter().flat_map(|daemon| {
            [daemon.life.due(), daemon.knock.as_ref().map(Knock::next)].into_iter().flatten()
        });
        let of_the_stop = self.stopping.as_ref().map(|stopping| stopping.deadline);
        let Some(next) = of_daemons.chain(of_the_stop).min() else {
            return PollTimeout::NONE;
        };
        // Rounded up, or the last millisecond would be spent in a busy loop.
        let wait = next.saturating_duration_since(now).as_micros().div_ceil(1000);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    fn keep_deadlines(&mut self, now: Instant) {
        for index in 0..self.daemons.len() {
            if self.daemons[index].life.due().is_some_and(|due| due <= now) {
                self.start(index, now);
            }
            let knock = self.daemons[index].knock.as_mut();
            if knock.is_some_and(|knock| knock.next() <= now && knock.again(now)) {
                self.listens(index);
            }
        }
        self.keep_stop_deadline(now);
    }

    fn start(&mut self, index: usize, now: Instant) {
        let daemon = &mut self.daemons[index];
        match start(&daemon.entry, &self.nothing, &daemon.stdout, &daemon.stderr) {
            Ok(pid) => {
                let Entry { ready_port, ready_address, .. } = daemon.entry;
                daemon.life.started(now, pid, ready_port.is_none());
                daemon.knock = ready_port.map(|port| Knock::new(ready_address, port, now));
                self.tell(index, What::Started { pid: pid.as_raw() });
            }
            Err(end) => {
                let how = told(&end);
                let next = daemon.life.not_started(now, end);
                self.tell_end(index, how, next);
            }
        }
    }

    fn listens(&mut self, index: usize) {
        let daemon = &mut self.daemons[index];
        daemon.knock = None;
        daemon.life.ready(Instant::now());
        if let Some(port) = daemon.entry.ready_port {
            self.tell(index, What::Listens { port });
        }
    }

    fn tell_end(&mut self, index: usize, how: String, next: Next) {
        let then = match next {
            Next::Again(after) => Then::Again { after },
            Next::GiveUp => Then::Failed { ends: TOO_OFTEN },
        };
        self.tell(index, What::Ended { how, then });
    }

    fn tell(&mut self, index: usize, what: What) {
        let daemon = self.daemons[index].name.clone();
        self.log.say(&News { daemon, what }.to_string());
    }

    fn hear_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGCHLD)) => self.reap(),
                Ok(Ok(signal)) if self.stopping.is_none() => self.stop(signal),
                _ => {}
            }
        }
    }

    /// Takes note of every child that has ended.
    pub(super) fn reap(&mut self) {
        loop {
            match children::next() {
                Ok(children::Next::Ended(pid, end)) => self.ended(pid, end),
                Ok(children::Next::None) => {
                    if let Some(stopping) = &mut self.stopping {
                        stopping.over = true;
                    }
                    return;
                }
                Ok(children::Next::AllRun) | Err(_) => break,
            }
        }
        self.follow_up_on_the_dead();
    }

    fn ended(&mut self, pid: Pid, end: End) {
        let Some(index) = self.daemons.iter().position(|daemon| daemon.life.pid() == Some(pid))
        else {
            children::reap(pid);
            return;
        };
        let now = Instant::now();
        if self.stopping.is_none() {
            // What is left of its group may hold its port. The group is still its own, since its leader is a zombie.
            let _ = killpg(pid, Signal::SIGKILL);
        }
        children::reap(pid);
        let daemon = &mut self.daemons[index];
        daemon.knock = None;
        daemon.stdout.end(&daemon.name, &mut self.log);
        daemon.stderr.end(&daemon.name, &mut self.log);
        let how = told(&end);
        if self.stopping.is_some() {
            daemon.life.stopped(now, end);
            self.tell(index, What::Stopped { how });
        } else {
            let next = daemon.life.ended(now, end);
            self.tell_end(index, how, next);
        }
    }

    fn status(&self) -> Status {
        let mut daemons: Vec<supervise::Daemon> = self
            .daemons
            .iter()
            .map(|daemon| supervise::Daemon {
                name: daemon.name.clone(),
                state: daemon.life.state(),
                since_unix_ms: unix_ms(daemon.life.since()),
                pid: daemon.life.pid().map(Pid::as_raw),
                restarts: daemon.life.restarts(),
                last_exit: daemon.life.last_exit().cloned(),
            })
            .collect();
        if let Some(position) = self.supervise_after {
            let own = supervise::Daemon {
                name: SUPERVISE.to_owned(),
                state: State::Running,
                since_unix_ms: unix_ms(self.began),
                pid: Some(getpid().as_raw()),
                restarts: 0,
                last_exit: None,
            };
            daemons.insert(position, own);
        }
        Status { version: VERSION.to_owned(), stopping: self.stopping.is_some(), daemons }
    }
}

/// The wall clock's time at `moment`: what it shows now, less the time that has passed since.
fn unix_ms(moment: Instant) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.saturating_sub(moment.elapsed()).as_millis()).unwrap_or(u64::MAX)
}

/// An end in words.
fn told(end: &End) -> String {
    match end {
        End::Code(code) => format!("exited with code {code}"),
        End::Signal(number) => match Signal::try_from(*number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        End::NotStarted { errno, what } => {
            format!("cannot {what}: {}", Errno::from_raw(*errno).desc())
        }
    }
}
