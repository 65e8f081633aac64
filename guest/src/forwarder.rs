//! A resolver that hands every query on to another one, in both directions and unread: what stands behind
//! `127.0.0.11` in a container, `127.0.0.53` on a desktop and the gateway's address in a virtual machine. A bottle has
//! none, but under a breach.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::Failure;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest message over UDP.
const DATAGRAM: usize = 4096;

/// The sockets that a forwarder listens with: they stay in the net namespace that they were made in.
pub(crate) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Listens on `address` in the caller's current net namespace.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { udp: UdpSocket::bind(address)?, tcp: TcpListener::bind(address)? })
    }

    /// What [`Vec::from`] has taken apart.
    pub(crate) fn from_descriptors(descriptors: Vec<OwnedFd>) -> Result<Self, Failure> {
        let [udp, tcp] = <[OwnedFd; 2]>::try_from(descriptors)
            .map_err(|_| Failure::new("find the forwarder's two sockets"))?;
        Ok(Self { udp: udp.into(), tcp: tcp.into() })
    }
}

impl From<Sockets> for Vec<OwnedFd> {
    fn from(Sockets { udp, tcp }: Sockets) -> Self {
        vec![udp.into(), tcp.into()]
    }
}

/// Forwards to `upstream`, from the caller's current net namespace, until the process is killed.
pub(crate) fn serve(sockets: Sockets, upstream: SocketAddr) -> ExitCode {
    let Sockets { udp, tcp } = sockets;
    let udp = Arc::new(udp);
    std::thread::spawn(move || forward_datagrams(&udp, upstream));
    let mut out = io::stdout();
    if out.write_all(b".").and_then(|()| out.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    for stream in tcp.incoming().flatten() {
        std::thread::spawn(move || forward_stream(&stream, upstream));
    }
    ExitCode::SUCCESS
}

/// One thread per query: none waits for another one's answer.
fn forward_datagrams(udp: &Arc<UdpSocket>, upstream: SocketAddr) {
    let mut buffer = [0; DATAGRAM];
    loop {
        let Ok((length, client)) = udp.recv_from(&mut buffer) else { continue };
        let (udp, query) = (Arc::clone(udp), buffer[..length].to_vec());
        std::thread::spawn(move || {
            if let Ok(answer) = ask(&query, upstream) {
                // The client may be gone.
                let _ = udp.send_to(&answer, client);
            }
        });
    }
}

fn ask(query: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(upstream)?;
    socket.send(query)?;
    let mut answer = vec![0; DATAGRAM];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn forward_stream(client: &TcpStream, upstream: SocketAddr) {
    let Ok(server) = TcpStream::connect_timeout(&upstream, PATIENCE) else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(&server, client));
        copy(client, &server);
    });
}

/// Ends when `from` does, and ends `to` then.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// The upstream's address, and that of a forwarder to it.
    fn forwarder() -> (UdpSocket, TcpListener, SocketAddr) {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        let listening = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = listening.local_addr().unwrap();
        let sockets = Sockets { udp: listening, tcp: TcpListener::bind(here).unwrap() };
        std::thread::spawn(move || serve(sockets, address));
        (udp, tcp, here)
    }

    #[test]
    fn queries_and_answers_pass_unread() {
        let (udp, tcp, here) = forwarder();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"query", here).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = udp.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"query");
        udp.send_to(b"answer", from).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"answer");

        let mut client = TcpStream::connect(here).unwrap();
        client.write_all(b"query").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut server, _) = tcp.accept().unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "query");
        server.write_all(b"answer").unwrap();
        drop(server);
        text.clear();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }
}
