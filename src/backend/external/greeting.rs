//! Finding the session's greeting behind whatever a command prints first.

use std::io;

use claude_bottle_protocol::session::{HEADER, Header, Kind};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The most bytes that may come before it.
const NOISE: usize = 64 * 1024;
/// How its payload begins.
const PAYLOAD: &[u8] = b"{\"version\":";

/// Reads until the greeting; returns what was read of it. What came instead, where it does not come.
pub(super) async fn find(
    reader: &mut (impl AsyncRead + Unpin),
    seen: &mut Vec<u8>,
) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = position(seen) {
            return Ok(seen.split_off(at));
        }
        if seen.len() > NOISE {
            return Err(io::Error::other("it prints too much"));
        }
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&buffer[..length]);
    }
}

fn position(seen: &[u8]) -> Option<usize> {
    let whole = HEADER + PAYLOAD.len();
    seen.windows(whole).position(|window| {
        let header = window.first_chunk::<HEADER>().and_then(|bytes| Header::decode(*bytes));
        header.is_some_and(|header| header.kind == Kind::Hello && header.channel == 0)
            && window[HEADER..] == *PAYLOAD
    })
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::session::frame;

    use super::*;

    #[tokio::test]
    async fn a_greeting_is_found_behind_a_banner_and_nowhere_else() {
        let hello = frame(Kind::Hello, 0, b"{\"version\":\"1\",\"toolbox\":\"/t\"}");
        let noisy = [b"Welcome to host\n\x01\0\0".as_slice(), &hello].concat();
        let mut seen = Vec::new();
        assert_eq!(find(&mut noisy.as_slice(), &mut seen).await.unwrap(), hello);
        assert_eq!(seen, b"Welcome to host\n\x01\0\0");
        assert!(find(&mut b"{\"version\":".as_slice(), &mut Vec::new()).await.is_err());
        assert!(find(&mut vec![1_u8; NOISE * 2].as_slice(), &mut Vec::new()).await.is_err());
    }
}
