//! Listen in the bottle, so that the outside can dial in.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Word};

use super::hold::Release;
use super::{Ready, dial};

/// How long to wait between two looks at the sockets.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How many ports are tried until one is free for both transports.
const PORTS_TRIED: usize = 16;

/// Listens until released. Whether anybody gets in is for the outside to tell.
pub(super) fn attempt(ready: &Ready<'_>, until: Instant, release: &Release) -> Word {
    let (listener, socket) = match bind() {
        Ok(bound) => bound,
        Err(error) => {
            let errno = error.raw_os_error();
            return Word { errno, ..Word::new(dial::errno_how(errno)) };
        }
    };
    ready.tell(listener.local_addr().ok().map(|address| address.port()));
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut heard = false;
    while !release.is_released() && Instant::now() < until {
        while let Ok((stream, _)) = listener.accept() {
            let _ = stream.set_nonblocking(true);
            streams.push(stream);
        }
        let mut buffer = [0; 512];
        for stream in &mut streams {
            if let Ok(length) = stream.read(&mut buffer) {
                for nonce in Nonce::scan(&buffer[..length]) {
                    heard |= stream.write_all(format!("{nonce}\n").as_bytes()).is_ok();
                }
            }
        }
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            for nonce in Nonce::scan(&buffer[..length]) {
                heard |= socket.send_to(nonce.as_str().as_bytes(), peer).is_ok();
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let detail = heard.then(|| "a nonce came in".to_owned());
    Word { detail, ..Word::new(How::Sent) }
}

/// Both transports on one port, on every address of both families if there are two.
fn bind() -> std::io::Result<(TcpListener, UdpSocket)> {
    let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..PORTS_TRIED {
        let listener = TcpListener::bind(any6).or_else(|_| TcpListener::bind(any4))?;
        match UdpSocket::bind(listener.local_addr()?) {
            Ok(socket) => {
                listener.set_nonblocking(true)?;
                socket.set_nonblocking(true)?;
                return Ok((listener, socket));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
