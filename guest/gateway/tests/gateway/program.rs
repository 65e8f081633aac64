//! The program, started.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than anything here takes; whoever waits that long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Gateway {
    process: Child,
    log: Mutex<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
    _config: tempfile::NamedTempFile,
}

impl Gateway {
    /// One that lets this through, where nobody answers for names.
    pub(crate) fn allowing(allow: &[&str]) -> Self {
        Self::with(
            json!({ "allow": allow, "resolver": "127.0.0.1:9", "limits": { "dial_ms": 300 } }),
        )
    }

    /// One with this configuration, and a port of its own.
    pub(crate) fn with(config: Value) -> Self {
        Self::run(config, |command| command)
    }

    /// As [`with`](Self::with), by another command.
    pub(crate) fn run(mut config: Value, how: impl FnOnce(Command) -> Command) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        if config.get("listen").is_none() {
            config["listen"] = "127.0.0.1:0".into();
        }
        write!(file, "{config}").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["--until-eof", "--config"]).arg(file.path()).stdin(Stdio::piped());
        let mut process = how(command).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, log: Mutex::new(log), address, _config: file }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What comes back for `bytes`, until the gateway closes.
    pub(crate) fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        rest(&mut stream)
    }

    /// A tunnel that it has granted.
    pub(crate) fn tunnel(&self, to: &str) -> TcpStream {
        let mut stream = self.connect();
        write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").unwrap();
        let mut answer = [0; 39];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"HTTP/1.1 200 Connection Established\r\n\r\n");
        stream
    }

    /// The next lines of its log.
    pub(crate) fn decisions(&self, count: usize) -> Vec<Value> {
        let mut log = self.log.lock().unwrap();
        let one = |_| {
            let mut line = String::new();
            log.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap()
        };
        (0..count).map(one).collect()
    }

    /// Asks it to end by this signal, and returns its exit code.
    pub(crate) fn end_by(&mut self, signal: &str) -> Option<i32> {
        let sent = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status();
        assert!(sent.unwrap().success());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It may wait for somebody to read its log.
            let _ = self.process.kill();
        }
        drop(self.process.stdin.take());
        let ended = self.process.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "it ends at the end of its input");
        }
    }
}

/// What a connection brings until it ends, however it ends.
pub(crate) fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&text).into_owned(),
    }
}
