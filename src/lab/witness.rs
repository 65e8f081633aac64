//! The host's side of a witness: its log, and draining it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::witness::{Event, Order, Sighting};
use futures_util::future::join_all;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::Notify;

/// How long a drain may take. A sound one takes well below a millisecond.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a witness cannot be relied on: all that depends on it is inconclusive.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WitnessError {
    /// It ended, or its stream broke.
    #[error("the witness died")]
    Died,
    /// It wrote what no witness writes.
    #[error("the witness wrote a line that cannot be understood: {0}")]
    Garbled(String),
    /// It did not answer in time.
    #[error("the witness did not drain within {} s", DRAIN.as_secs())]
    Stuck,
}

/// A witness that listens, or several that are one lab's.
pub struct Witness {
    parts: Vec<Arc<Part>>,
}

/// One process.
struct Part {
    orders: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    shared: Arc<Shared>,
    reader: tokio::task::JoinHandle<()>,
}

struct Shared {
    log: Mutex<Log>,
    changed: Notify,
}

/// What a witness has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Where each nonce was seen; the same one may have been seen several times.
    pub seen: BTreeMap<Nonce, Vec<Sighting>>,
    /// Accepted connections: listener, peer, and whether a nonce came over it.
    pub accepted: BTreeMap<u64, (Sighting, bool)>,
    /// What the listeners lost, since the last drain.
    pub lost: BTreeMap<u32, u64>,
    /// How often it was drained.
    pub drains: u32,
    /// Why nothing more will come.
    pub broken: Option<WitnessError>,
}

impl Witness {
    /// A witness whose events come from `events` and that takes orders at `orders`.
    pub fn new(
        events: impl AsyncRead + Send + Unpin + 'static,
        orders: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { log: Mutex::default(), changed: Notify::new() });
        let reader = tokio::spawn(read(events, Arc::clone(&shared)));
        let part = Part { orders: tokio::sync::Mutex::new(Box::new(orders)), shared, reader };
        Self { parts: vec![Arc::new(part)] }
    }

    /// Several witnesses as one: their listeners' numbers must be unique among them. Each stays what it is.
    pub fn together<'a>(witnesses: impl IntoIterator<Item = &'a Self>) -> Self {
        Self { parts: witnesses.into_iter().flat_map(|one| one.parts.iter().cloned()).collect() }
    }

    /// Forgets every connection so far: no attempt was made yet, so none of them is one.
    pub async fn forget_connections(&self) {
        // All that has arrived is in the logs then.
        let _ = self.drain().await;
        for part in &self.parts {
            part.shared.log().accepted.clear();
        }
    }

    /// Asks for all that has arrived so far, and returns the whole log. If the witness cannot be relied on any more,
    /// the log says so in [`Log::broken`]; what it had seen before still counts.
    pub async fn drain(&self) -> Log {
        let logs = join_all(self.parts.iter().map(|part| part.drain())).await;
        let mut whole = Log::default();
        for (number, log) in (0..).zip(logs) {
            whole.add(number, log);
        }
        whole
    }
}

impl Part {
    async fn drain(&self) -> Log {
        let mut order = serde_json::to_vec(&Order::Drain).expect("an order is plain data");
        order.push(b'\n');
        let mut orders = self.orders.lock().await;
        let drains = self.log().drains;
        // A failure to write shows as a witness that died, or does not answer.
        let _ = orders.write_all(&order).await;
        let _ = orders.flush().await;
        let drained = async {
            loop {
                let changed = self.shared.changed.notified();
                {
                    let log = self.log();
                    if log.drains > drains || log.broken.is_some() {
                        return;
                    }
                }
                changed.await;
            }
        };
        let in_time = tokio::time::timeout(DRAIN, drained).await;
        let mut log = self.log();
        if in_time.is_err() {
            log.broken.get_or_insert(WitnessError::Stuck);
        }
        log.clone()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log()
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(events: impl AsyncRead + Unpin, shared: Arc<Shared>) {
    let mut lines = BufReader::new(events).lines();
    let broken = loop {
        match lines.next_line().await {
            Ok(Some(line)) => match serde_json::from_str(&line) {
                Ok(event) => {
                    let drained = shared.log().take(event);
                    if drained {
                        shared.changed.notify_waiters();
                    }
                }
                Err(error) => break WitnessError::Garbled(error.to_string()),
            },
            Ok(None) | Err(_) => break WitnessError::Died,
        }
    };
    shared.log().broken = Some(broken);
    shared.changed.notify_waiters();
}

impl Log {
    /// Takes an event in; true for the end of a drain.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Listening { .. } => {}
            Event::Accepted { sighting, connection } => {
                self.accepted.insert(connection, (sighting, false));
            }
            Event::Saw { sighting, nonce, connection } => {
                if let Some((_, spoke)) = connection.and_then(|id| self.accepted.get_mut(&id)) {
                    *spoke = true;
                }
                self.seen.entry(nonce).or_default().push(sighting);
            }
            Event::Drained { lost } => {
                self.lost = lost.into_iter().map(|lost| (lost.listener, lost.drops)).collect();
                self.drains += 1;
                return true;
            }
        }
        false
    }

    /// Takes the log of the witness with this number among several in.
    fn add(&mut self, number: u64, other: Self) {
        let Self { seen, accepted, lost, drains, broken } = other;
        for (nonce, sightings) in seen {
            self.seen.entry(nonce).or_default().extend(sightings);
        }
        // Each counts its connections by itself.
        let accepted = accepted.into_iter();
        self.accepted.extend(accepted.map(|(id, one)| ((number << 48) | id, one)));
        self.lost.extend(lost);
        self.drains += drains;
        self.broken = self.broken.take().or(broken);
    }

    /// A connection to one of `listeners` over which no nonce ever came.
    pub fn silent_accept(&self, listeners: &[u32]) -> Option<&Sighting> {
        self.accepted
            .values()
            .find(|(sighting, spoke)| !spoke && listeners.contains(&sighting.listener))
            .map(|(sighting, _)| sighting)
    }

    /// Whether one of `listeners` lost anything.
    pub fn lossy(&self, listeners: &[u32]) -> bool {
        listeners.iter().any(|id| self.lost.get(id).is_some_and(|drops| *drops > 0))
    }

    /// From where `nonce` reached `listener`, if it did.
    pub fn reached(&self, nonce: &Nonce, listener: u32) -> Option<Option<SocketAddr>> {
        let sightings = self.seen.get(nonce)?;
        sightings.iter().find(|one| one.listener == listener).map(|one| one.peer)
    }
}
