//! Clients: accepted, counted, and each served one request.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use claude_bottle_protocol::gateway::{Limits, Weakness};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::head::{self, Head};
use crate::host::Host;
use crate::log::{self, Decision};
use crate::refusal::Refusal;
use crate::upstream::{Cleared, Upstream};
use crate::{forward, hello, tunnel};

/// How many clients may be without a whole request at the same time: the oldest gives way to a new one.
const UNDECIDED: usize = 256;

/// Of a tunnel whose client went before anything was said.
const GONE: &str = "it ended before it began";

/// What all clients share.
pub(crate) struct Gateway {
    pub(crate) upstream: Upstream,
    pub(crate) limits: Limits,
    /// What it overlooks: nothing, but in a lab.
    pub(crate) weakness: Option<Weakness>,
}

/// Accepts clients for ever; call within a `LocalSet`.
pub(crate) async fn accept(listener: TcpListener, gateway: Rc<Gateway>) {
    let places = Arc::new(Semaphore::new(gateway.limits.connections));
    let mut undecided: VecDeque<oneshot::Sender<()>> = VecDeque::new();
    loop {
        let Ok((mut stream, client)) = listener.accept().await else {
            // Out of descriptors: some will be free again.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let _ = stream.try_write(Refusal::Busy.answer().as_bytes());
            decide(client, None, None, Some(&Refusal::Busy));
            continue;
        };
        undecided.retain(|waiting| !waiting.is_closed());
        if undecided.len() >= UNDECIDED {
            undecided.pop_front();
        }
        let (waits, gives_way) = oneshot::channel();
        undecided.push_back(waits);
        let gateway = Rc::clone(&gateway);
        tokio::task::spawn_local(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            let served = serve(&gateway, &mut stream, client, gives_way).await;
            if let Err(refusal) = served {
                // The client may be gone.
                let _ = stream.write_all(refusal.answer().as_bytes()).await;
                linger(&mut stream).await;
            }
        });
    }
}

/// Lets the client read the answer: to close a socket with unread bytes would throw it away.
async fn linger(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    let drain = async {
        for _ in 0..64 {
            if !matches!(stream.read(&mut rest).await, Ok(length) if length > 0) {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_secs(1), drain).await;
}

/// Serves one request. An error has not been answered yet.
async fn serve(
    gateway: &Gateway,
    stream: &mut TcpStream,
    client: SocketAddr,
    gives_way: oneshot::Receiver<()>,
) -> Result<(), Refusal> {
    let mut bytes = Vec::new();
    let read = async {
        tokio::select! {
            read = read_head(stream, &mut bytes, Duration::from_millis(gateway.limits.head_ms)) => read,
            _ = gives_way => Err(Refusal::TooSlow),
        }
    };
    let asked = match read.await {
        Ok(None) => return Ok(()),
        Ok(Some(end)) => {
            head::parse(&bytes[..end], None, gateway.weakness).map(|asked| (asked, end))
        }
        Err(refusal) => Err(refusal),
    };
    let (asked, end) = asked.inspect_err(|refusal| decide(client, None, None, Some(refusal)))?;
    let cleared = gateway.upstream.clear(&asked.host, asked.port).await;
    let cleared =
        cleared.inspect_err(|refusal| decide(client, Some(&asked), None, Some(refusal)))?;
    let tell = |refusal: &Refusal| decide(client, Some(&asked), Some(&cleared), Some(refusal));
    let rest = bytes.split_off(end);
    if asked.method != "CONNECT" {
        let server = gateway.upstream.dial(&cleared).await.inspect_err(tell)?;
        decide(client, Some(&asked), Some(&cleared), None);
        bytes.extend(rest);
        if gateway.weakness == Some(Weakness::ForwardRaw) {
            tunnel::relay(stream, bytes, server, gateway.idle()).await;
            return Ok(());
        }
        return forward::one(stream, bytes, server, gateway.idle()).await;
    }
    if cleared.is_opaque || gateway.weakness == Some(Weakness::NoSniCheck) {
        let server = gateway.upstream.dial(&cleared).await.inspect_err(tell)?;
        decide(client, Some(&asked), Some(&cleared), None);
        if stream.write_all(tunnel::ESTABLISHED).await.is_ok() {
            tunnel::relay(stream, rest, server, gateway.idle()).await;
        }
        return Ok(());
    }
    if stream.write_all(tunnel::ESTABLISHED).await.is_err() {
        tell(&Refusal::Tunnel(GONE));
        return Ok(());
    }
    if let Err(refusal) = established(gateway, stream, rest, client, &asked, &cleared).await {
        // Nobody would understand an answer in here.
        tell(&refusal);
    }
    Ok(())
}

/// A tunnel whose server is dialled once the client has said for whom it is, and that is the destination.
async fn established(
    gateway: &Gateway,
    stream: &mut TcpStream,
    mut first: Vec<u8>,
    client: SocketAddr,
    asked: &Head,
    cleared: &Cleared,
) -> Result<(), Refusal> {
    let patience = Duration::from_millis(gateway.limits.head_ms);
    let is_plain = timeout(patience, said(gateway, stream, &mut first, asked))
        .await
        .map_err(|_| Refusal::TooSlow)??;
    let server = gateway.upstream.dial(cleared).await?;
    decide(client, Some(asked), Some(cleared), None);
    if is_plain {
        return forward::one(stream, first, server, gateway.idle()).await;
    }
    tunnel::relay(stream, first, server, gateway.idle()).await;
    Ok(())
}

/// Reads what a tunnel begins with: TLS for the destination, or on port 80 a plain request to it (then true).
async fn said(
    gateway: &Gateway,
    stream: &mut TcpStream,
    first: &mut Vec<u8>,
    asked: &Head,
) -> Result<bool, Refusal> {
    loop {
        if !first.is_empty() && asked.port == 80 && !hello::is_tls(first) {
            if let Some(end) = head::end(first)? {
                let within: (Host, u16) = (asked.host.clone(), asked.port);
                let read = head::parse(&first[..end], Some(&within), gateway.weakness);
                return read.map(|_| true);
            }
        } else if !first.is_empty() && hello::check(first, &asked.host)?.is_some() {
            return Ok(false);
        }
        match stream.read_buf(first).await {
            Ok(0) | Err(_) => return Err(Refusal::Tunnel(GONE)),
            Ok(_) => {}
        }
    }
}

/// Reads until there is a whole head; none if the client says nothing at all.
async fn read_head(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    patience: Duration,
) -> Result<Option<usize>, Refusal> {
    let read = async {
        loop {
            if let Some(end) = head::end(bytes)? {
                return Ok(Some(end));
            }
            match stream.read_buf(bytes).await {
                Ok(0) | Err(_) if bytes.is_empty() => return Ok(None),
                Ok(0) | Err(_) => return Err(Refusal::Malformed("it broke off")),
                Ok(_) => {}
            }
        }
    };
    timeout(patience, read).await.unwrap_or(Err(Refusal::TooSlow))
}

impl Gateway {
    fn idle(&self) -> Duration {
        Duration::from_millis(self.limits.idle_ms)
    }
}

fn decide(
    client: SocketAddr,
    asked: Option<&Head>,
    cleared: Option<&Cleared>,
    refusal: Option<&Refusal>,
) {
    log::write(&Decision {
        at_unix_ms: log::now(),
        client,
        method: asked.map(|asked| asked.method.chars().take(16).collect()).unwrap_or_default(),
        target: asked.map(|asked| format!("{}:{}", asked.host, asked.port)).unwrap_or_default(),
        rule: cleared.map(|cleared| cleared.rule.as_str()),
        refused: refusal.map(ToString::to_string),
    });
}
