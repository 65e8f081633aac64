//! A prober in this very process, for controls.
//!
//! It dials what its fuse names, address by address, and nothing else: this process is in the machine's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{Action, Attempt, Batch, Fuse, How, Word};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::super::Answers;

/// The most that is read of an answer, in bytes.
const ANSWER: usize = 64 * 1024;

/// How many attempts are made at the same time: each takes a descriptor of this process, and its witness another one.
const AT_A_TIME: usize = 32;

/// Makes all attempts of `batch`.
pub(crate) async fn probe(batch: &Batch) -> Answers {
    let room = Semaphore::new(AT_A_TIME);
    let made = batch.attempts.iter().map(|one| async {
        let _own = room.acquire().await;
        let begun = Instant::now();
        let patience = Duration::from_millis(u64::from(one.patience_ms));
        let made = timeout(patience, attempt(one, &batch.fuse)).await;
        let word = made.unwrap_or_else(|_| Word::new(How::TimedOut));
        (one.id, (word, begun.elapsed()))
    });
    let words = join_all(made).await.into_iter().collect();
    Answers { greeted: true, words, finished: true, ..Answers::default() }
}

async fn attempt(attempt: &Attempt, fuse: &Fuse) -> Word {
    let nonce = &attempt.nonce;
    let (target, said) = match &attempt.action {
        Action::Tcp(target) | Action::Udp(target) => (target, format!("{nonce}\n")),
        Action::Http(request) => (&request.target, request.message(nonce)),
        _ => {
            let detail = Some("no control is sent like this from here".to_owned());
            return Word { detail, ..Word::new(How::Failed) };
        }
    };
    let Ok(ip) = target.host.parse::<IpAddr>() else { return Word::new(How::NotResolved) };
    let address = SocketAddr::new(ip, target.port);
    if !matches!(fuse, Fuse::Addresses(permitted) if permitted.contains(&address)) {
        return Word::new(How::Fused);
    }
    let asked = match &attempt.action {
        Action::Udp(_) => by_udp(address, nonce).await,
        _ => by_tcp(address, &said, nonce).await,
    };
    let word = asked.unwrap_or_else(|error| failed(&error));
    Word { dialled: Some(ip), ..word }
}

async fn by_tcp(address: SocketAddr, said: &str, nonce: &Nonce) -> std::io::Result<Word> {
    let mut stream = TcpStream::connect(address).await?;
    let local = stream.local_addr().ok();
    stream.write_all(said.as_bytes()).await?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    let how = loop {
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) if answer.len() < ANSWER => {
                answer.extend_from_slice(&buffer[..length]);
                if Nonce::scan(&answer).any(|heard| heard == *nonce) {
                    break How::Answered;
                }
            }
            _ => break How::Connected,
        }
    };
    Ok(Word { local, ..Word::new(how) })
}

async fn by_udp(address: SocketAddr, nonce: &Nonce) -> std::io::Result<Word> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let local = socket.local_addr().ok();
    socket.send(nonce.as_str().as_bytes()).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if Nonce::scan(&buffer[..length]).any(|heard| heard == *nonce) {
            return Ok(Word { local, ..Word::new(How::Answered) });
        }
    }
}

/// What kept it from being sent.
fn failed(error: &std::io::Error) -> Word {
    use std::io::ErrorKind;
    let how = match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => How::Refused,
        ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::AddrNotAvailable => How::Unreachable,
        ErrorKind::PermissionDenied => How::Prohibited,
        _ => How::Failed,
    };
    Word { errno: error.raw_os_error(), ..Word::new(how) }
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::prober::Target;

    use super::*;
    use crate::probe::attempt::fresh_nonce;

    fn batch(actions: Vec<Action>, fuse: Vec<SocketAddr>) -> Batch {
        let attempt = |(id, action)| Attempt { id, nonce: fresh_nonce(), patience_ms: 500, action };
        let attempts = (0..).zip(actions).map(attempt).collect();
        Batch { token: fresh_nonce(), fuse: Fuse::Addresses(fuse), attempts }
    }

    fn target(address: SocketAddr) -> Target {
        Target { host: address.ip().to_string(), port: address.port() }
    }

    /// Loopback is no exception: what listens there may be somebody else's.
    #[tokio::test]
    async fn nothing_is_dialled_that_the_fuse_does_not_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let other = SocketAddr::new(address.ip(), 1);
        let mut batch = batch(vec![Action::Tcp(target(address))], vec![other]);
        for fuse in [batch.fuse.clone(), Fuse::Namespaces(vec![1])] {
            batch.fuse = fuse;
            assert_eq!(probe(&batch).await.words[&0].0.how, How::Fused);
            assert!(listener.accept().is_err());
        }
        batch.fuse = Fuse::Addresses(vec![address]);
        assert_eq!(probe(&batch).await.words[&0].0.how, How::TimedOut);
        assert!(listener.accept().is_ok());
    }

    #[tokio::test]
    async fn what_does_not_work_is_told() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let by_name = Target { host: "localhost".into(), port: 1 };
        let actions = vec![Action::Tcp(target(address)), Action::Tcp(by_name), Action::Idle];
        let answers = probe(&batch(actions, vec![address])).await;
        let how: Vec<_> = answers.words.values().map(|(word, _)| word.how).collect();
        assert_eq!(how, [How::Refused, How::NotResolved, How::Failed]);
        assert!(answers.greeted && answers.finished);
    }
}
