//! A site on the engine's host, which the bundle's gateway can reach: it tells what it was asked for.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::place::Place;

/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of an answer is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// A listener on the engine's default bridge.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    asked: Receiver<String>,
}

impl Site {
    pub(crate) async fn of(place: &Place) -> Self {
        let engine = place.engine().await;
        let bridge = engine.docker().inspect_network("bridge", None).await.unwrap();
        let config = bridge.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let gateway = config.into_iter().find_map(|config| config.gateway);
        let address: Ipv4Addr = gateway.expect("a default bridge").parse().unwrap();
        let listener = place.in_net(move || TcpListener::bind((address, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut head = BufReader::new(&client).lines().map_while(Result::ok);
                let request = head.next().unwrap_or_default();
                head.find(String::is_empty);
                let _ = (&client).write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nwelcome\n",
                );
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Self { address, asked }
    }

    /// What it was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

/// Asks the proxy at `proxy`, from the engine's host, for a path of a host; all of its answer.
pub(crate) fn by_way_of(place: &Place, proxy: SocketAddr, host: &str, path: &str) -> String {
    let request =
        format!("GET http://{host}/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    place.in_net(move || {
        let mut stream = TcpStream::connect(proxy).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    })
}
