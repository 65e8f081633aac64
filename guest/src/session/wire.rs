//! Frames on standard input and output.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use claude_bottle_protocol::session::{HEADER, Header, Kind, MAX_PAYLOAD, frame};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

/// Why the session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// The launcher is gone, or does not want it any more.
    #[error("the launcher has closed the session")]
    Closed,
    /// What arrived is not the protocol.
    #[error("malformed input: {0}")]
    Malformed(&'static str),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: Errno,
    },
}

/// Gives a failed system call its place.
pub(super) fn failed(what: &'static str) -> impl FnOnce(Errno) -> Stop {
    move |source| Stop::System { what, source }
}

/// Frames from the launcher, however they are cut up on their way.
pub(super) struct Incoming {
    /// Room for one whole frame. Its pages are not in memory before something long arrives.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; HEADER + MAX_PAYLOAD], start: 0, end: 0 }
    }

    /// Reads what has arrived, once; waits only if nothing has.
    pub(super) fn fill(&mut self, source: BorrowedFd<'_>) -> Result<(), Stop> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match nix::unistd::read(source, &mut self.buffer[self.end..]) {
            Ok(0) | Err(Errno::ECONNRESET) => Err(Stop::Closed),
            Ok(count) => {
                self.end += count;
                Ok(())
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(source) => Err(Stop::System { what: "read from the launcher", source }),
        }
    }

    /// The next frame, if all of it is here.
    pub(super) fn next(&mut self) -> Result<Option<(Kind, u32, Vec<u8>)>, Stop> {
        let Some(header) = self.buffer[self.start..self.end].first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let Some(header) = Header::decode(*header) else {
            return Err(Stop::Malformed("no frame's header"));
        };
        let payload = self.start + HEADER;
        if self.end < payload + header.length {
            return Ok(None);
        }
        self.start = payload + header.length;
        let bytes = self.buffer[payload..self.start].to_vec();
        Ok(Some((header.kind, header.channel, bytes)))
    }
}

/// Frames to the launcher. Writing waits until the launcher reads, which it always does.
pub(super) struct Outgoing {
    sink: OwnedFd,
    /// Data is read to behind the room for a header, and so leaves in one piece without being copied.
    scratch: Vec<u8>,
}

impl Outgoing {
    pub(super) fn new(sink: OwnedFd) -> Self {
        Self { sink, scratch: vec![0; HEADER + MAX_PAYLOAD] }
    }

    /// Where the next payload is put together.
    pub(super) fn payload(&mut self) -> &mut [u8] {
        &mut self.scratch[HEADER..]
    }

    /// Sends the first `length` bytes of [`Self::payload`].
    pub(super) fn send_payload(
        &mut self,
        kind: Kind,
        channel: u32,
        length: usize,
    ) -> Result<(), Stop> {
        self.scratch[..HEADER].copy_from_slice(&Header { kind, channel, length }.encode());
        write_all(self.sink.as_fd(), &self.scratch[..HEADER + length])
    }

    /// Sends a few bytes.
    pub(super) fn send(&self, kind: Kind, channel: u32, payload: &[u8]) -> Result<(), Stop> {
        write_all(self.sink.as_fd(), &frame(kind, channel, payload))
    }

    /// Sends a word as JSON. Those of the session are far shorter than a frame.
    pub(super) fn send_json(
        &self,
        kind: Kind,
        channel: u32,
        word: &impl Serialize,
    ) -> Result<(), Stop> {
        let json = serde_json::to_vec(word).unwrap_or_default();
        self.send(kind, channel, &json)
    }
}

fn write_all(sink: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Stop> {
    while !bytes.is_empty() {
        match nix::unistd::write(sink, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                // Whoever made this end may have made it non-blocking.
                let mut wait = [PollFd::new(sink, PollFlags::POLLOUT)];
                match poll(&mut wait, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(source) => return Err(failed("wait for the launcher")(source)),
                }
            }
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Stop::Closed),
            Err(source) => return Err(failed("write to the launcher")(source)),
        }
    }
    Ok(())
}
