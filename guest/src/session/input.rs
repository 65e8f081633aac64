//! What waits for a command's standard input.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use claude_bottle_protocol::session::WINDOW;

use super::wire::Stop;

/// The byte that ends a terminal's input (`VEOF`), as programs find it set.
const END_OF_INPUT: u8 = 4;
/// An empty buffer larger than this is given back.
const KEPT: usize = 4096;

/// A command's standard input: a pipe or a terminal, and the bytes that have not gone into it yet.
pub(super) struct Input {
    /// None once it has been closed, by either side.
    sink: Option<OwnedFd>,
    terminal: bool,
    waiting: VecDeque<u8>,
    /// It ends once everything that waits is gone.
    ending: bool,
}

impl Input {
    pub(super) fn new(sink: OwnedFd, terminal: bool) -> Self {
        Self { sink: Some(sink), terminal, waiting: VecDeque::new(), ending: false }
    }

    /// Queues `bytes`; returns how many bytes are taken at once, since nobody reads them any more.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        if self.sink.is_none() {
            return Ok(bytes.len());
        }
        if self.waiting.len() + bytes.len() > WINDOW {
            return Err(Stop::Malformed("more standard input than there is room for"));
        }
        self.waiting.extend(bytes);
        Ok(0)
    }

    /// Ends the input once everything before is gone.
    pub(super) fn end(&mut self) {
        self.ending = self.sink.is_some();
        self.settle();
    }

    /// The descriptor to wait for until it can be written to, if there is something to write.
    pub(super) fn wants(&self) -> Option<BorrowedFd<'_>> {
        let sink = self.sink.as_ref()?;
        (self.ending || !self.waiting.is_empty()).then(|| sink.as_fd())
    }

    /// Writes what it can; returns how many bytes were taken.
    pub(super) fn write(&mut self) -> usize {
        let Some(sink) = &self.sink else { return 0 };
        let (first, _) = self.waiting.as_slices();
        let taken = if first.is_empty() {
            0
        } else {
            match nix::unistd::write(sink, first) {
                Ok(count) => {
                    self.waiting.drain(..count);
                    count
                }
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => 0,
                // Nobody reads it any more.
                Err(_) => {
                    self.sink = None;
                    std::mem::take(&mut self.waiting).len()
                }
            }
        };
        self.settle();
        taken
    }

    /// Does what is due once nothing waits.
    fn settle(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        if self.waiting.capacity() > KEPT {
            self.waiting = VecDeque::new();
        }
        if !self.ending {
            return;
        }
        if !self.terminal {
            self.sink = None;
        } else if let Some(sink) = &self.sink
            && nix::unistd::write(sink, &[END_OF_INPUT]) == Err(nix::Error::EAGAIN)
        {
            return;
        }
        self.ending = false;
    }
}

#[cfg(test)]
mod tests {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    #[test]
    fn bytes_wait_until_there_is_room_and_are_taken_when_nobody_reads() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut input = Input::new(writer, false);
        assert!(input.wants().is_none());
        assert_eq!(input.push(&vec![7; WINDOW]).unwrap(), 0);
        assert!(input.push(&[8]).is_err(), "the window is full");
        let mut taken = 0;
        loop {
            match input.write() {
                0 => break,
                count => taken += count,
            }
        }
        assert!(taken > 0 && taken < WINDOW, "{taken} of {WINDOW} fit the pipe");
        input.end();
        assert!(input.wants().is_some(), "the end comes after what waits");
        drop(reader);
        assert_eq!(input.write(), WINDOW - taken);
        assert!(input.wants().is_none());
        assert_eq!(input.push(b"late").unwrap(), 4);
    }
}
