//! The daemons of a bundle that was started: whether they come up, and what its log tells of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{LogsOptionsBuilder, StopContainerOptionsBuilder};
use futures_util::{Stream, StreamExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::engine::Engine;
use super::error::DockerError;
use super::plan::{Awaited, Plan};
use crate::bundle::watch::{Failure, Watch};
use crate::nearest::visible;
use crate::report::text::Untrusted;

/// How long it may take until all are up. The gateway takes some milliseconds, what is written in Python a second or two.
const READY: Duration = Duration::from_secs(30);
/// How long the bundle may take to stop, in seconds. It takes a tenth of one.
const STOPS: i32 = 5;
/// How long the rest of its log may take after that.
const REST: Duration = Duration::from_secs(20);
/// The longest line of the bundle's log that is read, in bytes: the init writes none that is longer.
const LONGEST_LINE: usize = 32 * 1024;

/// Daemons that have come up.
#[derive(Debug)]
pub(in crate::backend) struct Daemons {
    watch: Arc<Mutex<Watch>>,
    reader: tokio::sync::Mutex<JoinHandle<()>>,
    /// The log is expected to end.
    is_ending: Arc<AtomicBool>,
    /// The log has ended before it was expected to.
    is_cut: Arc<AtomicBool>,
}

impl Daemons {
    /// Follows the log of a bundle that was started, and waits until its daemons are up, if any are waited for.
    pub(super) async fn awaited(
        engine: &Engine,
        plan: &Plan,
        bundle: &str,
    ) -> Result<Option<Self>, DockerError> {
        let Some(Awaited { daemons, server }) = &plan.awaited else { return Ok(None) };
        let image = plan.bundle.image.as_deref().unwrap_or_default();
        Self::up(engine, bundle, image, Watch::new(daemons, *server)).await.map(Some)
    }

    async fn up(
        engine: &Engine,
        bundle: &str,
        image: &str,
        mut watch: Watch,
    ) -> Result<Self, DockerError> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(true).build();
        let portions = engine.docker.logs(bundle, Some(options));
        let portions = portions.scan((), |(), portion| std::future::ready(portion.ok()));
        let mut lines = Lines::new(Box::pin(portions.map(|portion| portion.into_bytes().to_vec())));
        let all_up = async {
            while !watch.is_up() && watch.failure().is_none() {
                let Some(line) = lines.next().await else { return "the bundle has ended" };
                watch.take(&line);
            }
            "it has not come up"
        };
        let why = timeout(READY, all_up).await;
        if !watch.is_up() {
            let late = format!("it has not come up within {} s", READY.as_secs());
            let Failure { daemon, how, said } = watch.given_up(why.unwrap_or(&late));
            let (image, how) = (image.to_owned(), visible(&how));
            return Err(DockerError::Daemon { daemon, image, how, said: Untrusted::new(said) });
        }
        let watch = Arc::new(Mutex::new(watch));
        let (is_ending, is_cut) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (keeps, ending, cut) =
            (Arc::clone(&watch), Arc::clone(&is_ending), Arc::clone(&is_cut));
        // Ends with the bundle.
        let reader = tokio::spawn(async move {
            while let Some(line) = lines.next().await {
                lock(&keeps).take(&line);
            }
            cut.store(!ending.load(Ordering::Relaxed), Ordering::Relaxed);
        });
        let reader = tokio::sync::Mutex::new(reader);
        Ok(Self { watch, reader, is_ending, is_cut })
    }

    /// Stops the bundle, so that nothing of its log is missed, and waits until it is read.
    pub(in crate::backend) async fn end(&self, engine: &Engine, bundle: &str) {
        self.is_ending.store(true, Ordering::Relaxed);
        let options = StopContainerOptionsBuilder::default().t(STOPS).build();
        // Where it cannot be stopped it is removed, and what is lost is the end of its log.
        let _ = engine.docker.stop_container(bundle, Some(options)).await;
        let _ = timeout(REST, &mut *self.reader.lock().await).await;
    }

    /// What a person should know: what was refused so far, and what did not stay up. Harmless to print.
    pub(in crate::backend) fn remarks(&self) -> Vec<String> {
        let mut lines = lock(&self.watch).remarks();
        if self.is_cut.load(Ordering::Relaxed) {
            lines.push(
                "the bundle's log ended before the bottle did: what its daemons did then, and what was refused, is not known"
                    .to_owned(),
            );
        }
        lines.iter().map(|line| visible(line)).collect()
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        self.reader.get_mut().abort();
    }
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
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
    }
}
