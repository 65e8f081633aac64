//! What the bundle's init answers when it is asked for its daemons' states.
//!
//! It listens on a unix stream socket, [`SOCKET`] in the folder that [`RUN_DIR`] names. To connect is to ask: the
//! answer is one JSON document, [`Status`], and the end of the stream.

use serde::{Deserialize, Serialize};

use crate::session::End;

/// The variable that names the folder of the init's socket.
pub const RUN_DIR: &str = "BOTTLE_RUN_DIR";
/// The folder when the variable is not set.
pub const DEFAULT_RUN_DIR: &str = "/run/bottle";
/// The socket's name in the folder.
pub const SOCKET: &str = "supervise.sock";
/// The longest answer in bytes: what `SO_SNDBUF` holds by default (`net.core.wmem_default`), so that the init can
/// write it without waiting for the reader.
pub const MAX_STATUS: usize = 200 * 1024;

/// The state of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The init's [`crate::VERSION`].
    pub version: String,
    /// Whether the init has been told to stop.
    pub stopping: bool,
    /// The daemons, in the order of their selection.
    pub daemons: Vec<Daemon>,
}

impl Status {
    /// Whether every selected daemon is running.
    pub fn all_run(&self) -> bool {
        self.daemons.iter().all(|daemon| daemon.state == State::Running)
    }
}

/// One daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// When that began: milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// Its process in the init's PID namespace, while there is one.
    pub pid: Option<i32>,
    /// How many times it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_exit: Option<End>,
}

/// What a daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// About to be started, or started and not listening yet.
    Starting,
    /// Started, and listening where it is known to listen.
    Running,
    /// Ended; it will be started again after a pause.
    Backoff,
    /// Ended, since the init has been told to stop.
    Stopped,
    /// Ended too often in a row; it will not be started again.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemons::{MAX_NAME, MAX_SELECTED};

    #[test]
    fn the_longest_status_fits_into_a_socket() {
        let what = "x".repeat(256);
        let daemon = Daemon {
            name: "n".repeat(MAX_NAME),
            state: State::Starting,
            since_unix_ms: u64::MAX,
            pid: Some(i32::MIN),
            restarts: u32::MAX,
            last_exit: Some(End::NotStarted { errno: i32::MIN, what }),
        };
        let daemons = vec![daemon; MAX_SELECTED];
        let status = Status { version: "v".repeat(64), stopping: false, daemons };
        let json = serde_json::to_vec(&status).unwrap();
        assert!(json.len() < MAX_STATUS, "{}", json.len());
        assert_eq!(serde_json::from_slice::<Status>(&json).unwrap(), status);
    }

    #[test]
    fn nothing_selected_runs_and_anything_that_does_not_run_counts() {
        let mut status = Status { version: String::new(), stopping: false, daemons: Vec::new() };
        assert!(status.all_run());
        for (state, runs) in [(State::Running, true), (State::Failed, false)] {
            status.daemons.push(Daemon {
                name: "a".to_owned(),
                state,
                since_unix_ms: 0,
                pid: None,
                restarts: 0,
                last_exit: None,
            });
            assert_eq!(status.all_run(), runs);
        }
    }
}
