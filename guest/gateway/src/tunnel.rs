//! Bytes in both directions.

use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::heard::Heard;

/// The answer to a CONNECT that is let through.
pub(crate) const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";
/// How much is read at a time. The buffer is there only while something is, so that a silent tunnel costs none.
const BUFFER: usize = 64 * 1024;

/// Relays until both sides have ended, one broke off, or neither said anything for `idle`. `first` goes to the server
/// before anything else.
pub(crate) async fn relay(
    client: &mut TcpStream,
    first: Vec<u8>,
    mut server: TcpStream,
    idle: Duration,
) {
    if server.write_all(&first).await.is_err() {
        return;
    }
    drop(first);
    let heard = Heard::now();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both = async {
        let _ = tokio::try_join!(
            copy(from_client, to_server, &heard),
            copy(from_server, to_client, &heard)
        );
    };
    tokio::select! { () = both => {}, () = heard.silence(idle) => {} }
}

async fn copy(from: ReadHalf<'_>, mut to: WriteHalf<'_>, heard: &Heard) -> std::io::Result<()> {
    loop {
        from.ready(Interest::READABLE).await?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match from.try_read(&mut buffer) {
                Ok(0) => return to.shutdown().await,
                Ok(length) => {
                    heard.again();
                    to.write_all(&buffer[..length]).await?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
}
