//! What the init says of its daemons in the bundle's log, a line each: written by the init, read by the launcher.
//!
//! Every line of that log begins with who has said it, and no daemon is called [`INIT`], so that none can pass for it.

use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

/// The name under which the init speaks of itself.
pub const INIT: &str = "init";
/// What is between a speaker and what it says.
pub const SAYS: &str = " | ";

/// Who says a line of the bundle's log, and what.
pub fn said(line: &[u8]) -> Option<(&str, &[u8])> {
    let at = line.windows(SAYS.len()).position(|window| window == SAYS.as_bytes())?;
    let name = std::str::from_utf8(&line[..at]).ok()?;
    Some((name, &line[at + SAYS.len()..]))
}

/// What has become of a daemon. Its text is what the init says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The daemon.
    pub daemon: String,
    /// What has become of it.
    pub what: What,
}

/// What has become of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Its process was started.
    Started {
        /// The process, in the init's PID namespace.
        pid: i32,
    },
    /// It listens.
    Listens {
        /// The port.
        port: NonZeroU16,
    },
    /// Its process has ended, or could not be started.
    Ended {
        /// How, in words.
        how: String,
        /// What follows.
        then: Then,
    },
    /// It has ended, since the init was told to stop.
    Stopped {
        /// How, in words.
        how: String,
    },
}

/// What follows when a daemon has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is started again.
    Again {
        /// After this pause.
        after: Duration,
    },
    /// It is not.
    Failed {
        /// After so many quick ends in a row.
        ends: u32,
    },
}

const STARTED: &str = "started, pid ";
const LISTENS: &str = "listens on port ";
const STOPPED: &str = "stopped: ";
const AGAIN: (&str, &str) = ("again in ", " ms");
const FAILED: (&str, &str) = ("failed, after ", " quick ends in a row");

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.daemon)?;
        match &self.what {
            What::Started { pid } => write!(f, "{STARTED}{pid}"),
            What::Listens { port } => write!(f, "{LISTENS}{port}"),
            What::Ended { how, then } => write!(f, "{how}; {then}"),
            What::Stopped { how } => write!(f, "{STOPPED}{how}"),
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again { after } => write!(f, "{}{}{}", AGAIN.0, after.as_millis(), AGAIN.1),
            Self::Failed { ends } => write!(f, "{}{ends}{}", FAILED.0, FAILED.1),
        }
    }
}

impl News {
    /// What the init has said, without its name; none where that is no news of a daemon.
    pub fn parse(text: &str) -> Option<Self> {
        let (daemon, text) = text.split_once(": ")?;
        // The init says other things as well, with a colon in them.
        if daemon.contains(' ') {
            return None;
        }
        let what = if let Some(pid) = text.strip_prefix(STARTED) {
            What::Started { pid: pid.parse().ok()? }
        } else if let Some(port) = text.strip_prefix(LISTENS) {
            What::Listens { port: port.parse().ok()? }
        } else if let Some(how) = text.strip_prefix(STOPPED) {
            What::Stopped { how: how.to_owned() }
        } else {
            let (how, then) = text.rsplit_once("; ")?;
            What::Ended { how: how.to_owned(), then: Then::parse(then)? }
        };
        Some(Self { daemon: daemon.to_owned(), what })
    }
}

impl Then {
    fn parse(text: &str) -> Option<Self> {
        let between = |(begin, end)| text.strip_prefix(begin)?.strip_suffix(end);
        if let Some(ms) = between(AGAIN) {
            return Some(Self::Again { after: Duration::from_millis(ms.parse().ok()?) });
        }
        Some(Self::Failed { ends: between(FAILED)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_back() {
        let port = NonZeroU16::new(8888).unwrap();
        // What a program is called may hold anything.
        let how = "cannot start /a; again in 5 ms: No such file or directory".to_owned();
        let after = Duration::from_millis(100);
        for (what, expected) in [
            (What::Started { pid: 7 }, "a-1: started, pid 7"),
            (What::Listens { port }, "a-1: listens on port 8888"),
            (What::Stopped { how: how.clone() }, &format!("a-1: stopped: {how}")),
            (
                What::Ended { how: how.clone(), then: Then::Again { after } },
                &format!("a-1: {how}; again in 100 ms"),
            ),
            (
                What::Ended { how: how.clone(), then: Then::Failed { ends: 10 } },
                &format!("a-1: {how}; failed, after 10 quick ends in a row"),
            ),
        ] {
            let news = News { daemon: "a-1".to_owned(), what };
            assert_eq!(news.to_string(), expected);
            assert_eq!(News::parse(expected), Some(news));
        }
    }

    #[test]
    fn what_is_no_news_is_none() {
        for text in [
            "",
            "no daemons selected",
            "stopping on SIGTERM: pipelock",
            "7 lines dropped: the reader of this log is too slow",
            "a: started, pid x",
            "a: listens on port 0",
            "a: exited with code 1",
            "a: exited with code 1; again in a while",
            "error: cannot answer at /run/bottle/supervise.sock: Read-only file system",
        ] {
            assert_eq!(News::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_speaker_is_what_a_line_begins_with() {
        assert_eq!(said(b"init | a | b"), Some(("init", &b"a | b"[..])));
        assert_eq!(said(b"a | \xff"), Some(("a", &b"\xff"[..])));
        assert_eq!(said(b"\xff | a"), None);
        assert_eq!(said(b"a |"), None);
    }
}
