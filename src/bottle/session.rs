//! The launcher's end of the session in a bottle.

use std::sync::Arc;
use std::time::Duration;

use claude_bottle_protocol::VERSION;
use claude_bottle_protocol::session::{HEADER, Header, Hello, Kind, MAX_PAYLOAD, frame};
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
/// How long after its last input a carrier is nudged for the first time; each time after that it is twice as long.
const NUDGE: Duration = Duration::from_millis(20);
/// How often it is nudged after each input. The last time is 40 s after it.
const NUDGES: u32 = 11;
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
        Self::open_by(reader, writer, patience, false).await
    }

    /// As [`Self::open`], by a carrier that may keep the end of what it is given until it is given more.
    ///
    /// `smolvm machine exec` does (seen of 1.9.1): it waits until its input can be read, and reads ahead of what it hands on. So
    /// after each input it is given, a few times, a frame that means nothing and brings the rest of what it has along.
    pub async fn open_nudging(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        patience: Duration,
    ) -> Result<Self, BottleError> {
        Self::open_by(reader, writer, patience, true).await
    }

    async fn open_by(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        patience: Duration,
        nudges: bool,
    ) -> Result<Self, BottleError> {
        let mut reader = BufReader::with_capacity(HEADER + MAX_PAYLOAD, reader);
        let hello = timeout(patience, greet(&mut reader)).await;
        let hello = hello.map_err(|_| BottleError::Silent { patience })??;
        let (link, queues) = Link::new();
        tokio::spawn(read(Arc::clone(&link), reader));
        tokio::spawn(write(Arc::clone(&link), queues, writer, nudges));
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
async fn write(
    link: Arc<Link>,
    mut queues: Queues,
    mut writer: impl AsyncWrite + Unpin,
    nudges: bool,
) {
    let mut phase = link.watch();
    let written = tokio::select! {
        // Neither waits for an end that has already come.
        biased;
        _ = phase.wait_for(|phase| *phase != Phase::Open) => Ok(()),
        written = drain(&mut queues, &mut writer, nudges) => written,
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

async fn drain(
    queues: &mut Queues,
    writer: &mut (impl AsyncWrite + Unpin),
    nudges: bool,
) -> std::io::Result<()> {
    let mut batch = Vec::new();
    // There is nothing to bring along yet.
    let mut times = NUDGES;
    loop {
        let mut data = None;
        let nudge = tokio::time::sleep(NUDGE * (1 << times));
        tokio::select! {
            biased;
            control = queues.control.recv() => {
                batch.extend(control.into_iter().flatten());
                times = 0;
            }
            input = queues.data.recv() => (data, times) = (input, 0),
            () = nudge, if nudges && times < NUDGES => {
                // No command has this number, and nothing was taken.
                batch.extend(frame(Kind::Taken, 0, &[0; 4]));
                times += 1;
            }
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

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::session::{End, Ended};
    use tokio::io::DuplexStream;

    use super::*;

    /// How much the carrier reads at a time, and how much of it it hands on.
    const READ: usize = 8192;
    const HANDED_ON: usize = 4096;

    /// Hands on what it has read once there is more to read: `poll` on a descriptor that somebody reads through a buffer.
    async fn carrier(mut from: DuplexStream, mut to: DuplexStream) {
        let (mut pipe, mut ahead, mut portion) = (Vec::new(), Vec::new(), [0; READ]);
        while let Ok(length @ 1..) = from.read(&mut portion).await {
            pipe.extend_from_slice(&portion[..length]);
            while !pipe.is_empty() {
                if ahead.is_empty() {
                    ahead.extend(pipe.drain(..pipe.len().min(READ)));
                }
                let next: Vec<_> = ahead.drain(..ahead.len().min(HANDED_ON)).collect();
                if to.write_all(&next).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Greets, and ends each command with the length of its input as its code.
    async fn inside(mut input: DuplexStream, mut output: DuplexStream) {
        let hello = Hello { version: VERSION.into(), toolbox: "/toolbox".into() };
        let hello = frame(Kind::Hello, 0, &serde_json::to_vec(&hello).unwrap());
        output.write_all(&hello).await.unwrap();
        let (mut header, mut taken) = ([0; HEADER], 0);
        while input.read_exact(&mut header).await.is_ok() {
            let Header { kind, channel, length } = Header::decode(header).unwrap();
            let mut payload = vec![0; length];
            input.read_exact(&mut payload).await.unwrap();
            match kind {
                Kind::Stdin => taken += length,
                Kind::StdinEnd => {
                    let end = End::Code(i32::try_from(taken).unwrap());
                    let ended = Ended { end, stdout_cut: 0, stderr_cut: 0 };
                    let ended = serde_json::to_vec(&ended).unwrap();
                    output.write_all(&frame(Kind::Ended, channel, &ended)).await.unwrap();
                }
                _ => {}
            }
        }
    }

    /// How a command ends whose input has this many bytes.
    async fn ended(nudges: bool, length: usize) -> Option<crate::bottle::End> {
        let stream = || tokio::io::duplex(1024 * 1024);
        let ((writer, from), (to, input), (output, reader)) = (stream(), stream(), stream());
        tokio::spawn(carrier(from, to));
        tokio::spawn(inside(input, output));
        let patience = Duration::from_secs(10);
        let session = Session::open_by(reader, writer, patience, nudges).await.unwrap();
        let running = session.start(Command::new("wc").stdin(vec![b'x'; length])).unwrap();
        let patience = Duration::from_secs(if nudges { 10 } else { 1 });
        Some(timeout(patience, running.output()).await.ok()?.unwrap().end)
    }

    #[tokio::test]
    async fn a_carrier_that_keeps_the_end_of_its_input_hands_it_on_when_it_is_nudged() {
        let code = |length: usize| Some(crate::bottle::End::Code(i32::try_from(length).unwrap()));
        // Otherwise it would be another carrier.
        assert_eq!(ended(false, 6000).await, None);
        for length in [1, 4000, 6000, 8192, 13_000, 50_000] {
            assert_eq!(ended(true, length).await, code(length));
        }
    }
}
