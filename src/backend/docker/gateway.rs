//! The gateway in a bundle: whether it listens, and what it tells of its decisions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{LogsOptionsBuilder, StopContainerOptionsBuilder};
use futures_util::{Stream, StreamExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::engine::Engine;
use super::error::DockerError;
use super::way_out::DAEMON;
use crate::bundle::gateway::Refusals;
use crate::nearest::visible;
use crate::report::text::Untrusted;

/// How long it may take until it listens. It takes some milliseconds from the bundle's start.
const READY: Duration = Duration::from_secs(20);
/// How long the bundle may take to stop, in seconds. It takes a tenth of one.
const STOPS: i32 = 5;
/// The longest line of the bundle's log that is read, in bytes: the init writes none that is longer.
const LONGEST_LINE: usize = 32 * 1024;
/// How much of what it says instead of listening is told, in bytes.
const COMPLAINT: usize = 2048;

/// A gateway that listens.
#[derive(Debug)]
pub(in crate::backend) struct Gateway {
    refusals: Arc<Mutex<Refusals>>,
    reader: tokio::sync::Mutex<JoinHandle<()>>,
}

impl Gateway {
    /// Follows the log of a bundle that was started, and waits until its gateway listens.
    pub(super) async fn listening(engine: &Engine, bundle: &str) -> Result<Self, DockerError> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(true).build();
        let portions = engine.docker.logs(bundle, Some(options));
        let portions = portions.scan((), |(), portion| std::future::ready(portion.ok()));
        let mut lines = Lines::new(Box::pin(portions.map(|portion| portion.into_bytes().to_vec())));
        let mut said = Vec::new();
        let listens = async {
            while let Some(line) = lines.next().await {
                if own(&line).is_some_and(|line| line.starts_with(b"listening on ")) {
                    return true;
                }
                said.extend_from_slice(&line);
                said.push(b'\n');
                said.truncate(COMPLAINT);
            }
            false
        };
        if !timeout(READY, listens).await.unwrap_or(false) {
            return Err(DockerError::Gateway(Untrusted::new(said)));
        }
        let refusals = Arc::new(Mutex::new(Refusals::default()));
        let keeps = Arc::clone(&refusals);
        // Ends with the bundle.
        let reader = tokio::spawn(async move {
            while let Some(line) = lines.next().await {
                if let Some(line) = own(&line) {
                    keeps.lock().unwrap_or_else(PoisonError::into_inner).take(line);
                }
            }
        });
        Ok(Self { refusals, reader: tokio::sync::Mutex::new(reader) })
    }

    /// Stops the bundle, so that nothing of its log is missed, and waits until it is read.
    pub(in crate::backend) async fn end(&self, engine: &Engine, bundle: &str) {
        let options = StopContainerOptionsBuilder::default().t(STOPS).build();
        // Where it cannot be stopped it is removed, and what is lost is the end of its log.
        let _ = engine.docker.stop_container(bundle, Some(options)).await;
        let _ = timeout(READY, &mut *self.reader.lock().await).await;
    }

    /// What it has refused so far; harmless to print.
    pub(in crate::backend) fn refusals(&self) -> Vec<String> {
        let lines = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).lines();
        lines.iter().map(|line| visible(line)).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.reader.get_mut().abort();
    }
}

/// What a line of the bundle's log is if the gateway has written it.
fn own(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(DAEMON.as_bytes())?.strip_prefix(b" | ")
}

/// The lines of a stream of bytes. What is longer than any line is cut.
struct Lines<S> {
    portions: S,
    waiting: Vec<u8>,
}

impl<S: Stream<Item = Vec<u8>> + Unpin> Lines<S> {
    fn new(portions: S) -> Self {
        Self { portions, waiting: Vec::new() }
    }

    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<_> = self.waiting.drain(..=end).collect();
                line.pop();
                return Some(line);
            }
            if self.waiting.len() > LONGEST_LINE {
                return Some(std::mem::take(&mut self.waiting));
            }
            self.waiting.extend(self.portions.next().await?);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn lines_come_in_pieces() {
        let long = "x".repeat(LONGEST_LINE + 1);
        let portions = ["gate", "way | a\ninit | b\n", "\nc", &long, "\n", "rest"];
        let portions = portions.map(|text| text.as_bytes().to_vec());
        let mut lines = Lines::new(stream::iter(portions));
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await {
            seen.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(seen, ["gateway | a", "init | b", "", &format!("c{long}"), ""]);
        assert_eq!(own(seen[0].as_bytes()), Some(&b"a"[..]));
        assert_eq!(own(seen[1].as_bytes()), None);
    }
}
