//! What the session's reader, its writer and everyone who holds a running command share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claude_bottle_protocol::session::{self as protocol, Kind, MAX_PAYLOAD, WINDOW, frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::error::BottleError;
use super::running::{Ended, Event};

/// How many bytes of input, of all commands together, may wait to be written to the session.
const QUEUED: usize = 1024 * 1024;

/// How far the session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// It serves.
    Open,
    /// Its input is being closed; it has not ended yet.
    Closing,
    /// It is over, for this reason.
    Ended(String),
}

/// A frame of input that waits to be written, and its share of the room there is for those.
pub(super) struct Data {
    pub(super) frame: Vec<u8>,
    _share: Option<OwnedSemaphorePermit>,
}

/// The ends of the two queues that the writer empties. What is in the first goes before the second.
pub(super) struct Queues {
    pub(super) control: mpsc::UnboundedReceiver<Vec<u8>>,
    pub(super) data: mpsc::UnboundedReceiver<Data>,
}

/// The shared state of one session.
///
/// The queues know no limit of their own, so that sending never waits and can be done while dropping. They are
/// bounded by what goes in: input by [`QUEUED`], an acknowledgement takes 13 bytes for 64 KiB that arrived.
pub(super) struct Link {
    control: mpsc::UnboundedSender<Vec<u8>>,
    data: mpsc::UnboundedSender<Data>,
    room: Arc<Semaphore>,
    phase: watch::Sender<Phase>,
    channels: Mutex<Channels>,
}

#[derive(Default)]
struct Channels {
    last: u32,
    open: HashMap<u32, Channel>,
}

/// One running command, as the reader sees it.
struct Channel {
    /// None once nobody listens.
    events: Option<mpsc::UnboundedSender<Event>>,
    /// Bytes of output that arrived and were not acknowledged.
    unacknowledged: usize,
    /// Bytes of input that may still be sent.
    window: Arc<Semaphore>,
}

/// What a running command is made of.
pub(super) struct Opened {
    pub(super) channel: u32,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) window: Arc<Semaphore>,
}

impl Link {
    pub(super) fn new() -> (Arc<Self>, Queues) {
        let (control, control_end) = mpsc::unbounded_channel();
        let (data, data_end) = mpsc::unbounded_channel();
        let link = Self {
            control,
            data,
            room: Arc::new(Semaphore::new(QUEUED)),
            phase: watch::Sender::new(Phase::Open),
            channels: Mutex::default(),
        };
        (Arc::new(link), Queues { control: control_end, data: data_end })
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        // Nothing in here panics half-way through a change.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows how far the session is.
    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Why nothing can be done any more.
    pub(super) fn why_ended(&self) -> BottleError {
        let why = match &*self.phase.borrow() {
            Phase::Ended(why) => why.clone(),
            Phase::Open | Phase::Closing => "it is being closed".to_owned(),
        };
        BottleError::SessionEnded { why }
    }

    /// Lets the writer close the session's input.
    pub(super) fn close(&self) {
        self.phase.send_if_modified(|phase| {
            let open = *phase == Phase::Open;
            if open {
                *phase = Phase::Closing;
            }
            open
        });
    }

    /// Ends everything; the first reason counts.
    pub(super) fn fail(&self, why: impl Into<String>) {
        // Under the lock, so that nobody opens a channel in between.
        let mut channels = self.channels();
        self.phase.send_if_modified(|phase| {
            let first = !matches!(phase, Phase::Ended(_));
            if first {
                *phase = Phase::Ended(why.into());
            }
            first
        });
        self.room.close();
        for (_, channel) in channels.open.drain() {
            channel.window.close();
        }
    }

    /// Starts a command.
    pub(super) fn open(&self, start: &protocol::Start) -> Result<Opened, BottleError> {
        let json = serde_json::to_vec(start).unwrap_or_default();
        if json.len() > MAX_PAYLOAD {
            return Err(BottleError::TooLong { bytes: json.len(), most: MAX_PAYLOAD });
        }
        let mut channels = self.channels();
        if *self.phase.borrow() != Phase::Open {
            return Err(self.why_ended());
        }
        let mut number = channels.last.wrapping_add(1);
        while channels.open.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        channels.last = number;
        let (events, events_end) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(WINDOW));
        let channel =
            Channel { events: Some(events), unacknowledged: 0, window: Arc::clone(&window) };
        channels.open.insert(number, channel);
        self.control(Kind::Start, number, &json);
        Ok(Opened { channel: number, events: events_end, window })
    }

    /// Sends a frame ahead of all input. After the session's end it goes nowhere.
    pub(super) fn control(&self, kind: Kind, channel: u32, payload: &[u8]) {
        let _ = self.control.send(frame(kind, channel, payload));
    }

    /// Sends a frame of input, once there is room; the command's own window has been seen to.
    pub(super) async fn input(&self, channel: u32, payload: &[u8]) -> Result<(), BottleError> {
        let share = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.room).acquire_many_owned(share).await;
        let share = Some(share.map_err(|_| self.why_ended())?);
        let data = Data { frame: frame(Kind::Stdin, channel, payload), _share: share };
        self.data.send(data).map_err(|_| self.why_ended())
    }

    /// Ends a command's input, after all that was sent before.
    pub(super) fn input_end(&self, channel: u32) {
        let data = Data { frame: frame(Kind::StdinEnd, channel, &[]), _share: None };
        let _ = self.data.send(data);
    }

    /// Why a command takes no more input.
    pub(super) fn why_no_input(&self) -> BottleError {
        match &*self.phase.borrow() {
            Phase::Ended(why) => BottleError::SessionEnded { why: why.clone() },
            Phase::Open | Phase::Closing => BottleError::CommandEnded,
        }
    }

    /// Acknowledges output.
    pub(super) fn taken(&self, channel: u32, bytes: usize) {
        if let Some(open) = self.channels().open.get_mut(&channel) {
            open.unacknowledged = open.unacknowledged.saturating_sub(bytes);
            let count = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.control(Kind::Taken, channel, &count.to_le_bytes());
        }
    }

    /// Kills a command that nobody listens to any more.
    pub(super) fn abandon(&self, channel: u32) {
        if let Some(open) = self.channels().open.get_mut(&channel) {
            open.events = None;
            open.window.close();
            self.control(Kind::Abandon, channel, &[]);
        }
    }

    /// Passes on a frame from the session; the error says what is wrong with it.
    pub(super) fn arrived(
        &self,
        kind: Kind,
        channel: u32,
        payload: Vec<u8>,
    ) -> Result<(), &'static str> {
        let mut channels = self.channels();
        let Some(open) = channels.open.get_mut(&channel) else {
            return Err("it speaks of a command that does not run");
        };
        match kind {
            Kind::Stdout => open.data(payload, Event::Stdout),
            Kind::Stderr => open.data(payload, Event::Stderr),
            Kind::Taken => {
                let count = payload.try_into().map_err(|_| "its count is not four bytes")?;
                let count = usize::try_from(u32::from_le_bytes(count)).unwrap_or(usize::MAX);
                // No more than was sent, whatever it says.
                let sent = WINDOW.saturating_sub(open.window.available_permits());
                open.window.add_permits(count.min(sent));
                Ok(())
            }
            Kind::Ended => {
                let ended: protocol::Ended = serde_json::from_slice(&payload)
                    .map_err(|_| "its word on a command's end cannot be read")?;
                open.window.close();
                if let Some(events) = &open.events {
                    // Whoever listened may just have stopped.
                    let _ = events.send(Event::Ended(Ended::from(ended)));
                }
                channels.open.remove(&channel);
                Ok(())
            }
            _ => Err("it sends what only a launcher sends"),
        }
    }
}

impl Channel {
    fn data(
        &mut self,
        payload: Vec<u8>,
        event: impl FnOnce(Vec<u8>) -> Event,
    ) -> Result<(), &'static str> {
        if payload.is_empty() {
            return Err("it sends empty output");
        }
        let Some(events) = &self.events else { return Ok(()) };
        self.unacknowledged += payload.len();
        if self.unacknowledged > WINDOW {
            return Err("it sends more output than it may");
        }
        let _ = events.send(event(payload));
        Ok(())
    }
}
