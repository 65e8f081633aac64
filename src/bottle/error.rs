//! What goes wrong with a bottle.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::running::End;
use crate::report::text::Untrusted;

/// Why something could not be done in a bottle.
#[derive(Debug, Error)]
pub enum BottleError {
    /// Something answers, but not the toolbox's session.
    #[error("what answers from the bottle is no session, it says: {}", quoted(.said))]
    NotASession {
        /// How its answer begins.
        said: Untrusted,
    },
    /// Nothing answers.
    #[error("the bottle's session said nothing for {patience:?}")]
    Silent {
        /// How long it was waited for.
        patience: Duration,
    },
    /// The toolbox in there is another one.
    #[error("the toolbox in the bottle has version {}, this is {ours}", quoted(.theirs))]
    Version {
        /// What it says.
        theirs: Untrusted,
        /// The version that it must have.
        ours: &'static str,
    },
    /// The session is over, and with it every command of the bottle.
    #[error("session ended: {why}")]
    SessionEnded {
        /// Why.
        why: String,
    },
    /// The kernel killed the command, or the session with every command.
    #[error("the bottle's memory was used up, and the kernel killed what ran in it")]
    OutOfMemory,
    /// The command that was to get input has ended.
    #[error("the command has ended")]
    CommandEnded,
    /// The command does not fit a frame.
    #[error(
        "the command is {bytes} bytes long with its arguments and variables; at most {most} fit"
    )]
    TooLong {
        /// Its length as JSON.
        bytes: usize,
        /// The longest that fits.
        most: usize,
    },
    /// Something that answers in lines wrote one without an end.
    #[error("a line of the command's output is longer than {most} bytes")]
    LineTooLong {
        /// The longest allowed.
        most: usize,
    },
    /// The command could not be started.
    #[error("cannot {}: {}", what.as_str(), errno_text(*.errno))]
    NotStarted {
        /// The errno of the failing system call in the bottle.
        errno: i32,
        /// What failed, such as `exec /bin/true`.
        what: Untrusted,
    },
    /// The person's terminal.
    #[error("cannot {what}")]
    Terminal {
        /// What could not be done with it.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Not a place to copy to.
    #[error("cannot copy to {to:?} in a bottle: not an absolute path without `..`")]
    Destination {
        /// The path.
        to: String,
    },
    /// What is to be copied cannot be read.
    #[error("cannot read {path} to copy it into the bottle")]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The copy could not be made in the bottle.
    #[error("cannot copy {from} to {to} in the bottle: {end}: {}", quoted(.said))]
    CopyIn {
        /// What was to be copied.
        from: PathBuf,
        /// The copy's path.
        to: String,
        /// How the unpacking ended.
        end: End,
        /// What it wrote to standard error.
        said: Untrusted,
    },
    /// The backend could not do its part.
    #[error("{what}")]
    Backend {
        /// What could not be done.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// At most this many bytes of what a bottle says enter an error.
const QUOTED: usize = 1024;

/// The beginning of what a bottle says, made harmless; it ends a sentence, so that its last line needs no end.
pub(super) fn said(bytes: &[u8]) -> Untrusted {
    Untrusted::new(bytes[..bytes.len().min(QUOTED)].trim_ascii_end())
}

fn quoted(said: &Untrusted) -> &str {
    if said.as_str().is_empty() { "(nothing)" } else { said.as_str() }
}

/// An errno from inside a bottle, in words. Bottles are Linux, whatever this is.
pub(super) fn errno_text(errno: i32) -> String {
    if cfg!(target_os = "linux") {
        format!("{} (errno {errno})", nix::errno::Errno::from_raw(errno).desc())
    } else {
        format!("errno {errno}")
    }
}
