//! One running command.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process;
use std::time::Instant;

use claude_bottle_protocol::session::{
    End, Ended, GRACE, Kind, MAX_PAYLOAD, SILENCE, Start, WINDOW,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, tcgetpgrp};

use super::input::Input;
use super::wire::{Outgoing, Stop};
use crate::sys::{child, pending, terminal};

/// How much of a command's name an error quotes, in characters.
const QUOTED: usize = 200;

/// Which of a command's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard input.
    Input,
    /// Standard output, or the terminal.
    Output,
    /// Standard error.
    Error,
}

/// A command that was started, and has not been reported to have ended.
pub(super) struct Command {
    channel: u32,
    pid: Pid,
    terminal: bool,
    input: Input,
    output: Output,
    error: Output,
    /// Bytes of output that the launcher has not acknowledged.
    unacknowledged: usize,
    exit: Option<Exited>,
    abandoned: bool,
}

/// One of a command's output streams.
struct Output {
    /// None once it has ended.
    source: Option<OwnedFd>,
    kind: Kind,
    /// How many bytes may still be handed over.
    left: u64,
    /// How many bytes were thrown away.
    cut: u64,
    /// How many of the bytes that the command itself had written when it exited are still to be read.
    owed: usize,
}

impl Output {
    fn new(source: Option<OwnedFd>, kind: Kind, limit: u64) -> Self {
        Self { source, kind, left: limit, cut: 0, owed: 0 }
    }

    /// The descriptor to wait for, if it may be read: what is thrown away needs no room in the window. One that may
    /// not be read must not be waited for either, for its end would be told again and again.
    fn wants(&self, room: bool) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().filter(|_| room || self.left == 0).map(AsFd::as_fd)
    }
}

/// The command has exited; other processes may hold its streams.
struct Exited {
    end: End,
    /// When to stop listening to them if they stay silent.
    silent: Instant,
    /// When to stop listening to them in any case.
    last: Instant,
}

impl Command {
    /// Starts a command.
    pub(super) fn start(channel: u32, start: &Start) -> Result<Self, End> {
        let (program, arguments) = checked(start)?;
        let mut command = process::Command::new(program);
        command.args(arguments).envs(&start.env);
        if let Some(cwd) = &start.cwd {
            // std would report a missing folder as if the program were missing.
            std::fs::metadata(cwd).map_err(|error| not_started("enter", cwd, &error))?;
            command.current_dir(cwd);
        }
        child::prepare(&mut command, start.terminal.is_some());
        let (pid, input, output, error) = match start.terminal {
            Some((rows, columns)) => spawn_on_terminal(&mut command, rows, columns),
            None => spawn_on_pipes(&mut command),
        }
        .map_err(|error| not_started("exec", program, &error))?;
        Ok(Self {
            channel,
            pid,
            terminal: start.terminal.is_some(),
            input: Input::new(input, start.terminal.is_some()),
            output: Output::new(Some(output), Kind::Stdout, start.output_limit),
            error: Output::new(error, Kind::Stderr, start.output_limit),
            unacknowledged: 0,
            exit: None,
            abandoned: false,
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn input(&mut self) -> &mut Input {
        &mut self.input
    }

    /// What is to be waited for.
    pub(super) fn wants(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>, PollFlags)> {
        let room = self.unacknowledged < WINDOW;
        let input = self.input.wants().map(|fd| (Stream::Input, fd, PollFlags::POLLOUT));
        let output = self.output.wants(room).map(|fd| (Stream::Output, fd, PollFlags::POLLIN));
        let error = self.error.wants(room).map(|fd| (Stream::Error, fd, PollFlags::POLLIN));
        input.into_iter().chain(output).chain(error)
    }

    /// Reads from a stream once and hands over what it may.
    pub(super) fn read(&mut self, stream: Stream, out: &mut Outgoing) -> Result<(), Stop> {
        let room = WINDOW.saturating_sub(self.unacknowledged);
        let output = if stream == Stream::Error { &mut self.error } else { &mut self.output };
        let Some(source) = &output.source else {
            return Ok(());
        };
        let wanted = if output.left == 0 { MAX_PAYLOAD } else { MAX_PAYLOAD.min(room) };
        if wanted == 0 {
            // The other stream has just filled the window that they share.
            return Ok(());
        }
        let count = match nix::unistd::read(source, &mut out.payload()[..wanted]) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            // A terminal that nobody holds any more says EIO.
            Ok(0) | Err(_) => {
                output.source = None;
                output.owed = 0;
                return Ok(());
            }
            Ok(count) => count,
        };
        output.owed = output.owed.saturating_sub(count);
        let passed = usize::try_from(output.left).map_or(count, |left| left.min(count));
        output.left -= passed as u64;
        output.cut = output.cut.saturating_add((count - passed) as u64);
        let kind = output.kind;
        self.unacknowledged += passed;
        if let Some(exit) = &mut self.exit {
            exit.silent = Instant::now() + SILENCE;
        }
        if passed > 0 {
            out.send_payload(kind, self.channel, passed)?;
        }
        Ok(())
    }

    /// The launcher has taken `count` bytes.
    pub(super) fn taken(&mut self, count: u32) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.unacknowledged = self.unacknowledged.saturating_sub(count);
    }

    /// Sends a signal to the command's process group, and to the one in the foreground of its terminal.
    pub(super) fn signal(&self, signal: Signal) {
        // It may be gone.
        let _ = killpg(self.pid, signal);
        if signal == Signal::SIGKILL && self.exit.is_none() {
            // It may have moved to another group.
            let _ = kill(self.pid, signal);
        }
        let terminal = self.output.source.as_ref().filter(|_| self.terminal);
        if let Some(group) = terminal.and_then(|fd| tcgetpgrp(fd).ok())
            && group != self.pid
            && group.as_raw() > 1
        {
            let _ = killpg(group, signal);
        }
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) {
        if let Some(fd) = self.output.source.as_ref().filter(|_| self.terminal) {
            // It may be closing.
            let _ = terminal::resize(fd.as_fd(), rows, columns);
        }
    }

    /// Nobody listens any more.
    pub(super) fn abandon(&mut self) {
        self.signal(Signal::SIGKILL);
        self.abandoned = true;
        self.unacknowledged = 0;
        self.output.left = 0;
        self.error.left = 0;
    }

    /// The command has exited.
    pub(super) fn exited(&mut self, end: End) {
        let now = Instant::now();
        for output in [&mut self.output, &mut self.error] {
            output.owed = output.source.as_ref().map_or(0, |fd| pending::bytes(fd.as_fd()));
        }
        self.exit = Some(Exited { end, silent: now + SILENCE, last: now + GRACE });
    }

    /// When [`Self::ended`] is to be asked again, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let exit = self.exit.as_ref().filter(|_| !self.owes())?;
        Some(exit.silent.min(exit.last))
    }

    /// How it ended, once there is nothing more to hand over.
    pub(super) fn ended(&self, now: Instant) -> Option<Ended> {
        let exit = self.exit.as_ref()?;
        let open = self.output.source.is_some() || self.error.source.is_some();
        let over = self.deadline().is_some_and(|deadline| now >= deadline);
        (self.abandoned || !open || over).then(|| Ended {
            end: exit.end.clone(),
            stdout_cut: self.output.cut,
            stderr_cut: self.error.cut,
        })
    }

    fn owes(&self) -> bool {
        self.output.owed > 0 || self.error.owed > 0
    }
}

/// The program and its arguments, if they and everything beside them can be handed to the kernel.
fn checked(start: &Start) -> Result<(&str, &[String]), End> {
    let invalid = |what: &str| End::NotStarted { errno: Errno::EINVAL as i32, what: what.into() };
    let Some((program, arguments)) = start.argv.split_first() else {
        return Err(invalid("a command without a program"));
    };
    let whole = |text: &String| !text.contains('\0');
    if !start.argv.iter().chain(&start.cwd).chain(start.env.values()).all(whole) {
        return Err(invalid("a command with a NUL in it"));
    }
    if start.env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(invalid("a variable without a proper name"));
    }
    Ok((program, arguments))
}

fn not_started(doing: &str, what: &str, error: &io::Error) -> End {
    let quoted: String = what.chars().take(QUOTED).collect();
    let errno = error.raw_os_error().unwrap_or(Errno::EINVAL as i32);
    End::NotStarted { errno, what: format!("{doing} {quoted}") }
}

type Spawned = (Pid, OwnedFd, OwnedFd, Option<OwnedFd>);

fn spawn_on_pipes(command: &mut process::Command) -> io::Result<Spawned> {
    let piped = process::Stdio::piped;
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn()?;
    let pid = pid(&child);
    let missing = || io::Error::from(Errno::EBADF);
    let input = OwnedFd::from(child.stdin.take().ok_or_else(missing)?);
    let output = OwnedFd::from(child.stdout.take().ok_or_else(missing)?);
    let error = OwnedFd::from(child.stderr.take().ok_or_else(missing)?);
    for fd in [&input, &output, &error] {
        never_wait(fd.as_fd())?;
    }
    Ok((pid, input, output, Some(error)))
}

fn spawn_on_terminal(
    command: &mut process::Command,
    rows: u16,
    columns: u16,
) -> io::Result<Spawned> {
    let (ours, theirs) = terminal::open(rows, columns)?;
    never_wait(ours.as_fd())?;
    let input = ours.try_clone()?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    let child = command.spawn()?;
    // `command` holds the terminal's other end, which must close for the terminal to end.
    let null = process::Stdio::null;
    command.stdin(null()).stdout(null()).stderr(null());
    Ok((pid(&child), input, ours, None))
}

/// The child's number; the session itself waits for all of its children.
fn pid(child: &process::Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn never_wait(fd: BorrowedFd<'_>) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use nix::sys::wait::waitpid;

    use super::*;

    fn start(script: &str) -> Command {
        let start = Start {
            argv: ["sh", "-c", script].map(String::from).into(),
            env: [].into(),
            cwd: None,
            output_limit: u64::MAX,
            terminal: None,
        };
        Command::start(1, &start).unwrap()
    }

    fn nowhere() -> Outgoing {
        Outgoing::new(File::options().write(true).open("/dev/null").unwrap().into())
    }

    /// Reads what may be read.
    fn read(command: &mut Command, out: &mut Outgoing) {
        while command.wants().any(|(stream, ..)| stream == Stream::Output)
            && (command.exit.is_none() || command.owes())
        {
            command.read(Stream::Output, out).unwrap();
        }
    }

    #[test]
    fn what_was_written_is_handed_over_however_late_the_launcher_reads() {
        // A window and half a pipe, and somebody who keeps the pipe open.
        let mut command = start("sleep 1000 & head -c 294912 /dev/zero");
        let mut out = nowhere();
        read(&mut command, &mut out);
        assert_eq!(command.unacknowledged, WINDOW);
        waitpid(command.pid(), None).unwrap();
        command.exited(End::Code(0));
        let late = Instant::now() + Duration::from_secs(3600);
        assert!(command.owes() && command.deadline().is_none());
        assert_eq!(command.ended(late), None);

        command.taken(u32::try_from(WINDOW).unwrap());
        read(&mut command, &mut out);
        assert_eq!(command.unacknowledged, 294_912 - WINDOW);
        let deadline = command.deadline().unwrap();
        let before = deadline.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(command.ended(before), None);
        let ended = Ended { end: End::Code(0), stdout_cut: 0, stderr_cut: 0 };
        assert_eq!(command.ended(deadline), Some(ended));
        command.signal(Signal::SIGKILL);
    }

    #[test]
    fn nobody_waits_for_the_streams_of_an_abandoned_command() {
        let mut command = start("sleep 1000 & sleep 1000");
        command.abandon();
        assert_eq!(command.ended(Instant::now()), None);
        waitpid(command.pid(), None).unwrap();
        command.exited(End::Signal(9));
        assert!(command.ended(Instant::now()).is_some());
    }
}
