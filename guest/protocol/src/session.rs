//! Frames between the launcher and the session, the process that starts commands inside a bottle.
//!
//! One frame: kind (1 byte), channel (4 bytes, little endian), length (4 bytes, little endian), payload. Control
//! frames carry JSON; data frames carry bytes as they are. A command's output can therefore never be mistaken for
//! the protocol. A channel is one command, its number chosen by the launcher.
//!
//! # Flow
//!
//! Data is acknowledged in both directions by [`Kind::Taken`]; per channel and direction, a sender keeps at most
//! [`WINDOW`] bytes unacknowledged. Neither side ever has to buffer more than that for a command or a reader that
//! is slow, both always go on reading frames, and a signal is never stuck behind data.
//!
//! # End
//!
//! [`Kind::Ended`] is a channel's last frame. It comes when the command has exited and everything that it had
//! written by then has been handed over. A process that it left behind and that still holds a stream may add
//! output for [`SILENCE`] after its last, and for [`GRACE`] at most.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// The length of a frame's header, in bytes.
pub const HEADER: usize = 9;
/// How many bytes per channel and direction may be sent without having been acknowledged. Standard output and error
/// share one window.
pub const WINDOW: usize = 256 * 1024;
/// How long, after a command has exited, nothing may come from a stream that some other process keeps open.
pub const SILENCE: Duration = Duration::from_millis(200);
/// How long, after a command has exited, such a stream is read at all.
pub const GRACE: Duration = Duration::from_secs(2);

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Session → launcher, once, channel 0: [`Hello`] as JSON.
    Hello = 1,
    /// Launcher → session: [`Start`] as JSON.
    Start = 2,
    /// Launcher → session: bytes for the command's standard input.
    Stdin = 3,
    /// Launcher → session: the command's standard input ends. A terminal is sent `^D` instead, which ends the
    /// input of a program that reads lines.
    StdinEnd = 4,
    /// Launcher → session: a signal number (1 byte) for the command's process group, and for the one in the
    /// foreground of its terminal, if it has one.
    Signal = 5,
    /// Launcher → session: the terminal's rows and columns, 2 bytes each, little endian.
    Resize = 6,
    /// Session → launcher: bytes of the command's standard output (or of its terminal).
    Stdout = 7,
    /// Session → launcher: bytes of the command's standard error.
    Stderr = 8,
    /// Session → launcher: the command has ended, [`Ended`] as JSON. The last frame of a channel.
    Ended = 9,
    /// Either way: so many more bytes (4 bytes, little endian) of the channel's data have been taken: written to the
    /// command's standard input, or handed to whoever reads its output.
    Taken = 10,
    /// Launcher → session: nobody listens to this channel any more. Its process group is killed and its output
    /// thrown away; [`Kind::Ended`] follows nevertheless.
    Abandon = 11,
}

impl Kind {
    /// The kind with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Start,
            3 => Self::Stdin,
            4 => Self::StdinEnd,
            5 => Self::Signal,
            6 => Self::Resize,
            7 => Self::Stdout,
            8 => Self::Stderr,
            9 => Self::Ended,
            10 => Self::Taken,
            11 => Self::Abandon,
            _ => return None,
        })
    }
}

/// The session is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The toolbox's [`crate::VERSION`].
    pub version: String,
    /// The path of the toolbox inside the bottle.
    pub toolbox: String,
}

/// A command to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Program and arguments. A program without a slash is looked up on the bottle's `PATH`.
    pub argv: Vec<String>,
    /// Variables, added to the bottle's own; one named `PATH` is also the one that the program is looked up on.
    pub env: BTreeMap<String, String>,
    /// The working directory; none: the bottle's own.
    pub cwd: Option<String>,
    /// How many bytes of each output stream to hand over; what comes after is read and thrown away.
    pub output_limit: u64,
    /// A terminal of this size (rows, columns) instead of three pipes.
    pub terminal: Option<(u16, u16)>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// How.
    pub end: End,
    /// Bytes of standard output that were thrown away.
    pub stdout_cut: u64,
    /// Bytes of standard error that were thrown away.
    pub stderr_cut: u64,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum End {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It could not be started.
    NotStarted {
        /// The errno of the failing system call.
        errno: i32,
        /// What failed, such as `exec /bin/true`.
        what: String,
    },
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// The command it belongs to.
    pub channel: u32,
    /// The payload's length in bytes.
    pub length: usize,
}

impl Header {
    /// Encodes the header.
    ///
    /// # Panics
    ///
    /// When `length` is more than [`MAX_PAYLOAD`]: the sender splits its data.
    pub fn encode(self) -> [u8; HEADER] {
        assert!(self.length <= MAX_PAYLOAD, "a frame holds at most {MAX_PAYLOAD} bytes");
        let length = u32::try_from(self.length).expect("checked above").to_le_bytes();
        let channel = self.channel.to_le_bytes();
        let mut out = [0; HEADER];
        out[0] = self.kind as u8;
        out[1..5].copy_from_slice(&channel);
        out[5..9].copy_from_slice(&length);
        out
    }

    /// Decodes a header; none if the kind is unknown or the length is too large.
    pub fn decode(bytes: [u8; HEADER]) -> Option<Self> {
        let [kind, c0, c1, c2, c3, l0, l1, l2, l3] = bytes;
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
        let kind = Kind::from_byte(kind)?;
        let channel = u32::from_le_bytes([c0, c1, c2, c3]);
        (length <= MAX_PAYLOAD).then_some(Self { kind, channel, length })
    }
}

/// A whole frame as bytes.
pub fn frame(kind: Kind, channel: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Header { kind, channel, length: payload.len() }.encode().to_vec();
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_bad_ones_are_refused() {
        for byte in 0..=u8::MAX {
            let Some(kind) = Kind::from_byte(byte) else {
                continue;
            };
            let header = Header { kind, channel: 0xdead_beef, length: MAX_PAYLOAD };
            assert_eq!(Header::decode(header.encode()), Some(header));
        }
        assert_eq!(Header::decode([0; HEADER]), None);
        assert_eq!(Header::decode([7, 0, 0, 0, 0, 1, 0, 1, 0]), None, "65,537 bytes");
    }
}
