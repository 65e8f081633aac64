//! The log on standard output: bounded, and never waited for.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{dup, write};

use super::lines::{MAX_LINE, render};

/// How many bytes wait for a slow reader before lines are dropped.
const MAX_WAITING: usize = 64 * 1024;
/// How much of that is kept for the init's own lines, which matter most when a daemon floods the log.
const RESERVED: usize = 8 * 1024;
/// A queue that has grown beyond this is given back once it is empty.
const KEEP: usize = 4 * 1024;
/// The name on the init's own lines.
const OWN: &str = "init";

/// A log whose reader may be slow, or gone.
#[derive(Debug)]
pub(crate) struct Log {
    /// None once nobody can read it any more.
    sink: Option<Sink>,
    waiting: VecDeque<u8>,
    lost: u64,
    /// One line, kept between calls for its memory.
    line: String,
}

impl Log {
    /// The log on standard output.
    pub(crate) fn on_standard_output() -> Self {
        Self::on(Sink::standard_output().ok())
    }

    fn on(sink: Option<Sink>) -> Self {
        Self { sink, waiting: VecDeque::new(), lost: 0, line: String::new() }
    }

    /// Logs a line of the init's own.
    pub(crate) fn say(&mut self, text: &str) {
        self.line(OWN, text.as_bytes(), 0);
    }

    /// Logs a line of the daemon `name`, `cut` bytes of which are missing already.
    pub(crate) fn line(&mut self, name: &str, line: &[u8], cut: u64) {
        let mut text = std::mem::take(&mut self.line);
        text.clear();
        // A `String` cannot fail to be written to.
        let _ = write!(text, "{name} | ");
        render(line, cut, &mut text);
        text.push('\n');
        self.push(&text, if name == OWN { MAX_WAITING } else { MAX_WAITING - RESERVED });
        if text.capacity() <= KEEP {
            self.line = text;
        }
    }

    fn push(&mut self, line: &str, limit: usize) {
        if self.sink.is_none() {
            return;
        }
        let note = note(self.lost);
        if !self.has_room(note.len() + line.len(), limit) {
            self.flush();
        }
        // The flush may have told of the losses already.
        let note = if self.lost == 0 { "" } else { &note };
        if self.has_room(note.len() + line.len(), limit) {
            self.waiting.extend(note.as_bytes());
            self.waiting.extend(line.as_bytes());
            self.lost = 0;
        } else {
            self.lost += 1;
        }
    }

    fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.waiting.len() + bytes <= limit
    }

    /// Writes as much as the reader takes at once.
    pub(crate) fn flush(&mut self) {
        self.drain();
        if self.waiting.is_empty() && self.lost > 0 {
            self.waiting.extend(note(self.lost).as_bytes());
            self.lost = 0;
            self.drain();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEEP {
            self.waiting = VecDeque::new();
        }
    }

    fn drain(&mut self) {
        while let (Some(sink), false) = (&self.sink, self.waiting.is_empty()) {
            match write(sink.as_fd(), self.waiting.as_slices().0) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // The reader is gone, or the disk is full: the daemons matter more.
                Err(_) => {
                    self.sink = None;
                    self.waiting = VecDeque::new();
                    self.lost = 0;
                }
            }
        }
    }

    /// What to wait for until more can be written; none when nothing waits.
    pub(crate) fn blocked_on(&self) -> Option<BorrowedFd<'_>> {
        self.sink.as_ref().filter(|_| !self.waiting.is_empty()).map(Sink::as_fd)
    }
}

fn note(lost: u64) -> String {
    match lost {
        0 => String::new(),
        _ => format!("{OWN} | {lost} lines dropped: the reader of this log is too slow\n"),
    }
}

/// A descriptor that does not block.
#[derive(Debug)]
struct Sink {
    descriptor: OwnedFd,
    /// The flags of the open file description before `O_NONBLOCK` was set on it, when it is shared with others.
    restore: Option<OFlag>,
}

impl Sink {
    fn standard_output() -> Result<Self, Errno> {
        let stdout = io::stdout();
        let kind = SFlag::from_bits_truncate(fstat(&stdout)?.st_mode) & SFlag::S_IFMT;
        // Files are always ready, and a second open file description would have its own offset.
        if kind == SFlag::S_IFREG {
            return Ok(Self { descriptor: dup(&stdout)?, restore: None });
        }
        // An open file description of our own leaves alone that of the shell or of the terminal. Impossible for
        // sockets, and without /proc.
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        if let Ok(descriptor) = open("/proc/self/fd/1", flags, Mode::empty()) {
            return Ok(Self { descriptor, restore: None });
        }
        Self::shared(dup(&stdout)?)
    }

    fn shared(descriptor: OwnedFd) -> Result<Self, Errno> {
        let before = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
        fcntl(&descriptor, FcntlArg::F_SETFL(before | OFlag::O_NONBLOCK))?;
        Ok(Self { descriptor, restore: Some(before) })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(before) = self.restore {
            let _ = fcntl(&self.descriptor, FcntlArg::F_SETFL(before));
        }
    }
}

const _: () =
    assert!(MAX_LINE * 2 < MAX_WAITING - RESERVED, "a line and a note fit into an empty queue");

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::unistd::pipe2;

    use super::*;

    /// A log into a pipe, and the pipe's other end.
    fn piped() -> (Log, io::PipeReader) {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        (Log::on(Some(Sink::shared(writer).unwrap())), reader.into())
    }

    fn all(log: Log, mut reader: io::PipeReader) -> String {
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_carry_their_name() {
        let (mut log, reader) = piped();
        log.say("here");
        log.line("a", b"\x1b]0;x", 0);
        log.line("b", b"init | forged", 3);
        log.flush();
        assert!(log.blocked_on().is_none());
        assert_eq!(
            all(log, reader),
            "init | here\na | \\x1b]0;x\nb | init | forged… [3 bytes cut]\n"
        );
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_is_told_how_many() {
        let (mut log, mut reader) = piped();
        let line = [b'x'; 1000];
        let pushed = 1000;
        for _ in 0..pushed {
            log.line("a", &line, 0);
        }
        assert!(log.blocked_on().is_some());
        assert!(log.waiting.len() <= MAX_WAITING && log.lost > 0);
        log.say("still heard");

        let mut text = Vec::new();
        while log.blocked_on().is_some() {
            let mut buffer = [0; 4096];
            let length = reader.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..length]);
            log.flush();
        }
        assert_eq!(log.waiting.capacity(), 0);
        let text = String::from_utf8(text).unwrap() + &all(log, reader);
        let (told, kept): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("init"));
        let lost = pushed - kept.len();
        let note = format!("init | {lost} lines dropped: the reader of this log is too slow");
        assert_eq!(told, [&note, "init | still heard"]);
        assert!(kept.iter().all(|line| line.len() == "a | ".len() + 1000), "no line is cut in two");
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (mut log, reader) = piped();
        drop(reader);
        log.say("lost");
        log.flush();
        log.say("lost too");
        assert!(log.blocked_on().is_none() && log.waiting.is_empty());
    }

    #[test]
    fn a_shared_description_is_left_as_it_was() {
        let (_reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let flags = |fd: &OwnedFd| fcntl(fd, FcntlArg::F_GETFL).unwrap();
        let before = flags(&writer);
        let sink = Sink::shared(dup(&writer).unwrap()).unwrap();
        assert_eq!(flags(&writer), before | OFlag::O_NONBLOCK.bits());
        drop(sink);
        assert_eq!(flags(&writer), before);
    }
}
