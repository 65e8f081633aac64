//! One JSON line per decision, on standard output.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// What was decided.
#[derive(Debug, Serialize)]
pub(crate) struct Decision<'a> {
    /// When, in milliseconds since 1970.
    pub(crate) at_unix_ms: u128,
    /// Who asked.
    pub(crate) client: SocketAddr,
    /// `CONNECT`, `GET` …; empty where none was understood.
    pub(crate) method: String,
    /// The destination as it was judged: `host:port`; empty where none was understood.
    pub(crate) target: String,
    /// The rule that lets it through.
    pub(crate) rule: Option<&'a str>,
    /// Why it is refused.
    pub(crate) refused: Option<String>,
}

/// The time of a decision.
pub(crate) fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Writes it. A reader that is gone is no reason to stop.
pub(crate) fn write(decision: &Decision<'_>) {
    if let Ok(mut line) = serde_json::to_vec(decision) {
        line.push(b'\n');
        let _ = std::io::stdout().write_all(&line);
    }
}
