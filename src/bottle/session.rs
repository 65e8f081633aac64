//! The launcher's end of the session in a bottle.

use std::sync::Arc;
use std::time::Duration;

use claude_bottle_protocol::VERSION;
use claude_bottle_protocol::session::{HEADER, Header, Hello, Kind, MAX_PAYLOAD};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::command::Command;
use super::error::{BottleError, said};
use super::link::{Link, Phase, Queues};
use super::running::Running;

/// How long to listen to what is no session, for the sake of its error message.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How many bytes of it to read.
const LAST_WORDS_LENGTH: u64 = 1024;
/// How long the session may still be heard after it has stopped listening: its end may be on its way.
const HALF_CLOSED: Duration = Duration::from_secs(2);

/// A session: runs any number of commands at a time over one pair of byte streams.
///
/// Dropping it closes the session's input, upon which the session kills everything that it started and ends; each
/// [`Running`] then gets [`BottleError::SessionEnded`]. Whoever goes on to kill the session's own process waits for
/// [`Self::close`] first: killed, a session that is not PID 1 takes its commands along, but not what they left behind.
pub struct Session {
    link: Arc<Link>,
    toolbox: String,
}

impl Session {
    /// Waits for the session's greeting and takes it into service.
    ///
    /// `reader` and `writer` are its standard output and input, by whatever way: a socket pair, a child's pipes, an
    /// attached container.
    pub async fn open(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        patience: Duration,
    ) -> Result<Self, BottleError> {
        let mut reader = BufReader::with_capacity(HEADER + MAX_PAYLOAD, reader);
        let hello = timeout(patience, greet(&mut reader)).await;
        let hello = hello.map_err(|_| BottleError::Silent { patience })??;
        let (link, queues) = Link::new();
        tokio::spawn(read(Arc::clone(&link), reader));
        tokio::spawn(write(Arc::clone(&link), queues, writer));
        Ok(Self { link, toolbox: hello.toolbox })
    }

    /// As [`Self::open`]. Where that fails, what `complaint` comes to is why, if it is anything: whoever built the walls around
    /// the session explains it better.
    pub async fn open_or_told(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        patience: Duration,
        complaint: impl Future<Output = String>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let error = match Self::open(reader, writer, patience).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let said = complaint.await;
        Err(if said.is_empty() { error.into() } else { said.into() })
    }

    /// The path of the toolbox inside, as the session says.
    pub fn toolbox(&self) -> &str {
        &self.toolbox
    }

    /// Starts a command. Must be called in a tokio runtime.
    pub fn start(&self, command: Command) -> Result<Running, BottleError> {
        let opened = self.link.open(&command.start())?;
        Ok(Running::new(Arc::clone(&self.link), opened, command))
    }

    /// Waits until the session has ended, and says why.
    pub async fn ended(&self) -> String {
        let mut phase = self.link.watch();
        let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
        match ended.as_deref() {
            Ok(Phase::Ended(why)) => why.clone(),
            // The sender lives in `self.link`.
            _ => String::new(),
        }
    }

    /// Closes the session's input and waits for its end, by which it has ended everything that it started. After
    /// `patience` it is given up; returns whether it ended by itself.
    pub async fn close(&self, patience: Duration) -> bool {
        self.link.close();
        let ended = timeout(patience, self.ended()).await.is_ok();
        self.link.fail("the launcher has closed it");
        ended
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.link.fail("the launcher has closed it");
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("toolbox", &self.toolbox).finish_non_exhaustive()
    }
}

/// Reads the greeting.
async fn greet(reader: &mut (impl AsyncRead + Unpin)) -> Result<Hello, BottleError> {
    let mut bytes = Vec::with_capacity(HEADER);
    let _ = (&mut *reader).take(HEADER as u64).read_to_end(&mut bytes).await;
    let header = bytes.first_chunk::<HEADER>().and_then(|bytes| Header::decode(*bytes));
    let header = header.filter(|header| header.kind == Kind::Hello && header.channel == 0);
    let Some(header) = header else {
        let mut rest = reader.take(LAST_WORDS_LENGTH);
        let _ = timeout(LAST_WORDS, rest.read_to_end(&mut bytes)).await;
        return Err(BottleError::NotASession { said: said(&bytes) });
    };
    let mut payload = vec![0; header.length];
    if reader.read_exact(&mut payload).await.is_err() {
        return Err(BottleError::NotASession { said: said(&bytes) });
    }
    understand(&payload)
}

/// Takes the greeting apart. That of another version may look different in everything but the version.
fn understand(payload: &[u8]) -> Result<Hello, BottleError> {
    #[derive(Deserialize)]
    struct AnyHello {
        version: String,
    }
    let strange = || BottleError::NotASession { said: said(payload) };
    let any: AnyHello = serde_json::from_slice(payload).map_err(|_| strange())?;
    if any.version != VERSION {
        let theirs = said(any.version.as_bytes());
        return Err(BottleError::Version { theirs, ours: VERSION });
    }
    serde_json::from_slice(payload).map_err(|_| strange())
}

/// Passes on what the session sends. Always reads: what a slow listener leaves is bounded by its window.
async fn read(link: Arc<Link>, mut reader: impl AsyncRead + Unpin) {
    let mut phase = link.watch();
    let why = tokio::select! {
        why = carry(&link, &mut reader) => why,
        _ = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))) => return,
    };
    link.fail(why);
}

/// Passes on frames until there is a reason not to.
async fn carry(link: &Link, reader: &mut (impl AsyncRead + Unpin)) -> String {
    loop {
        let mut header = [0; HEADER];
        // A clean end is one between two frames.
        match reader.read(&mut header[..1]).await {
            Ok(0) => return "it has closed its output".to_owned(),
            Ok(_) => {}
            Err(error) => return format!("cannot read from it: {error}"),
        }
        if let Err(error) = reader.read_exact(&mut header[1..]).await {
            return format!("cannot read a whole frame from it: {error}");
        }
        let Some(header) = Header::decode(header) else {
            return "it sends something else than frames".to_owned();
        };
        let mut payload = vec![0; header.length];
        if let Err(error) = reader.read_exact(&mut payload).await {
            return format!("cannot read a whole frame from it: {error}");
        }
        if let Err(wrong) = link.arrived(header.kind, header.channel, payload) {
            return wrong.to_owned();
        }
    }
}

/// Writes what is queued, until the session is closing or does not listen.
async fn write(link: Arc<Link>, mut queues: Queues, mut writer: impl AsyncWrite + Unpin) {
    let mut phase = link.watch();
    let written = tokio::select! {
        // Neither waits for an end that has already come.
        biased;
        _ = phase.wait_for(|phase| *phase != Phase::Open) => Ok(()),
        written = drain(&mut queues, &mut writer) => written,
    };
    if let Err(error) = written {
        drop(writer);
        tokio::time::sleep(HALF_CLOSED).await;
        link.fail(format!("cannot write to it: {error}"));
    } else {
        // Its own end of a stream that has two directions would otherwise stay open.
        let _ = timeout(HALF_CLOSED, writer.shutdown()).await;
    }
}

async fn drain(queues: &mut Queues, writer: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let mut batch = Vec::new();
    loop {
        let mut data = None;
        tokio::select! {
            biased;
            control = queues.control.recv() => batch.extend(control.into_iter().flatten()),
            input = queues.data.recv() => data = input,
        }
        // All of it, before the input: a command's start was queued before its first input, yet maybe after the
        // look at the first queue above.
        while let Ok(control) = queues.control.try_recv() {
            batch.extend(control);
        }
        if let Some(data) = &data {
            batch.extend_from_slice(&data.frame);
        }
        writer.write_all(&batch).await?;
        writer.flush().await?;
        batch.clear();
    }
}
