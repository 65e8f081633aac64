//! The gateway as a program, with real sockets on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Gateway {
    process: Child,
    address: SocketAddr,
    _config: tempfile::NamedTempFile,
}

impl Gateway {
    fn start(allow: &[String]) -> Self {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        let allow = serde_json::to_string(allow).unwrap();
        // Nobody answers for names there.
        write!(config, r#"{{"allow": {allow}, "listen": "127.0.0.1:0", "resolver": "127.0.0.1:9", "limits": {{"dial_ms": 300}}}}"#)
            .unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["--until-eof", "--config"])
            .arg(config.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, address, _config: config }
    }

    /// What comes back for `bytes`, until the gateway closes.
    fn ask(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success(), "it ends at the end of its input");
    }
}

/// A server that answers each connection with what it got, and tells how many there were.
fn server() -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap();
            let got = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
            if tell.send(got).is_err() {
                return;
            }
        }
    });
    (port, told)
}

#[test]
fn what_is_allowed_is_reached_and_nothing_else() {
    let (allowed, got) = server();
    let (other, nothing) = server();
    let gateway = Gateway::start(&[format!("127.0.0.1:{allowed}")]);
    let get = |host: &str, fields: &str| {
        gateway.ask(&format!("GET http://{host}/path HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"))
    };
    let reached = |answer: &str| answer.starts_with("HTTP/1.1 200") && answer.ends_with("hi");

    assert!(reached(&get(
        &format!("127.0.0.1:{allowed}"),
        "Upgrade: h2c\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\n"
    )));
    let seen = got.recv().unwrap().to_lowercase();
    assert!(
        seen.starts_with("get /path http/1.1\r\n")
            && !seen.contains("upgrade")
            && !seen.contains("x-hop"),
        "{seen}"
    );
    let tunnel =
        format!("CONNECT 127.1:{allowed} HTTP/1.1\r\nHost: 127.1:{allowed}\r\n\r\nthrough");
    let answer = gateway.ask(&tunnel);
    assert!(
        answer.starts_with("HTTP/1.1 200 Connection Established\r\n\r\n") && answer.ends_with("hi"),
        "{answer}"
    );
    assert_eq!(got.recv().unwrap(), "through");

    for host in [
        format!("127.0.0.1:{other}"),
        format!("[::ffff:7f00:1]:{other}"),
        format!("2130706433:{other}"),
    ] {
        assert!(get(&host, "").starts_with("HTTP/1.1 403"), "{host}");
        let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert!(gateway.ask(&connect).starts_with("HTTP/1.1 403"), "{host}");
    }
    let smuggled =
        get(&format!("127.0.0.1:{allowed}"), "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    assert!(smuggled.starts_with("HTTP/1.1 400"), "{smuggled}");
    assert!(got.try_recv().is_err() && nothing.try_recv().is_err(), "nothing was sent upstream");
    // The control: the server that must not be reached would have been.
    TcpStream::connect(("127.0.0.1", other)).unwrap().write_all(b"x").unwrap();
    assert_eq!(nothing.recv_timeout(Duration::from_secs(20)).unwrap(), "x");
}

#[test]
fn an_empty_list_denies_all() {
    let (port, got) = server();
    let gateway = Gateway::start(&[]);
    let answer = gateway
        .ask(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.ends_with("the host is not allowed\n"),
        "{answer}"
    );
    assert!(got.try_recv().is_err());
}
