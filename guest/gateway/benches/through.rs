//! What the gateway costs: requests and bytes through it beside the same without it, and the memory of a thousand silent
//! tunnels.
//!
//! `CLAUDE_BOTTLE_GATEWAY=FILE` names the program to measure, such as the one that is embedded in `claude-bottle`
//! (`target/toolbox/TARGET/guest/gateway`). Ratios are what lasts: both sides of each run at the same time of day, on one machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Set in the process that has room for all the sockets.
const ROOM: &str = "GATEWAY_BENCH_HAS_ROOM";
const TUNNELS: usize = 1000;
const REQUESTS: usize = 2000;
const CLIENTS: usize = 4;
const DOWNLOAD: usize = 256 * 1024 * 1024;

fn main() {
    if std::env::var_os(ROOM).is_none() {
        // A thousand tunnels have three thousand ends here.
        let mut roomy = Command::new("sh");
        roomy.args(["-c", "ulimit -n 8192 && exec \"$0\""]).arg(std::env::current_exe().unwrap());
        let status = roomy.env(ROOM, "1").status().unwrap();
        assert!(status.success(), "it failed, or there are no 8192 open files to be had: {status}");
        return;
    }
    let server = serve();
    let gateway = Gateway::start(&[server]);
    let direct = requests(|| TcpStream::connect(server).unwrap(), "");
    let url = format!("http://{server}");
    let through = requests(|| TcpStream::connect(gateway.address).unwrap(), &url);
    told("requests/s, a connection each", direct, through);
    let direct = round_trips(|| TcpStream::connect(server).unwrap());
    let through = round_trips(|| gateway.tunnel(server));
    told("round trips/s in open connections", direct, through);
    let direct = download(TcpStream::connect(server).unwrap());
    let through = download(gateway.tunnel(server));
    told("MB/s", direct, through);
    let before = gateway.memory();
    let tunnels: Vec<_> = (0..TUNNELS).map(|_| gateway.tunnel(server)).collect();
    let (anonymous, resident) = gateway.memory();
    println!(
        "{TUNNELS} silent tunnels: {anonymous} KiB anonymous, {resident} KiB resident; without them {} and {} KiB",
        before.0, before.1
    );
    drop(tunnels);
}

fn told(what: &str, direct: f64, through: f64) {
    println!(
        "{what}: {through:.0} through the gateway, {direct:.0} without it, {:.2} of it",
        through / direct
    );
}

/// How many a second, all clients together.
fn requests(connect: impl Fn() -> TcpStream + Sync, url: &str) -> f64 {
    rate(|| {
        for _ in 0..REQUESTS / CLIENTS {
            let mut stream = connect();
            let host = url.strip_prefix("http://").unwrap_or("a.test");
            let get = format!("GET {url}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(get.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("hi"), "{answer}");
        }
    })
}

fn round_trips(connect: impl Fn() -> TcpStream + Sync) -> f64 {
    rate(|| {
        let mut stream = connect();
        for _ in 0..REQUESTS / CLIENTS {
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
        }
    })
}

fn rate(client: impl Fn() + Sync) -> f64 {
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(&client);
        }
    });
    f64::from(u32::try_from(REQUESTS).unwrap()) / begun.elapsed().as_secs_f64()
}

fn download(mut stream: TcpStream) -> f64 {
    let begun = Instant::now();
    stream.write_all(b"down").unwrap();
    let (mut buffer, mut left) = (vec![0; 256 * 1024], DOWNLOAD);
    while left > 0 {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "{left} bytes are missing");
        left -= length;
    }
    f64::from(u32::try_from(DOWNLOAD).unwrap()) / 1e6 / begun.elapsed().as_secs_f64()
}

/// A server that answers requests once, and sends back whatever else comes; for `down`, much.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.set_nodelay(true);
            let serve = move || {
                let mut buffer = [0; 4096];
                while let Ok(length) = stream.read(&mut buffer) {
                    let done = match &buffer[..length] {
                        [] => return,
                        [b'G', ..] => {
                            let _ = stream.write_all(
                                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
                            );
                            return;
                        }
                        b"down" => {
                            let part = vec![0; 1024 * 1024];
                            (0..DOWNLOAD / part.len()).try_for_each(|_| stream.write_all(&part))
                        }
                        other => stream.write_all(other),
                    };
                    if done.is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new().stack_size(64 * 1024).spawn(serve).unwrap();
        }
    });
    address
}

struct Gateway {
    process: Child,
    address: SocketAddr,
    _config: tempfile::NamedTempFile,
}

impl Gateway {
    fn start(servers: &[SocketAddr]) -> Self {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        let allow = servers.iter().map(ToString::to_string).collect::<Vec<_>>();
        let json = serde_json::json!({ "allow": allow, "listen": "127.0.0.1:0", "resolver": "127.0.0.1:9" });
        write!(config, "{json}").unwrap();
        let program = std::env::var("CLAUDE_BOTTLE_GATEWAY");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_gateway").to_owned());
        let mut process = Command::new(program)
            .args(["--until-eof", "--config"])
            .arg(config.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        // It waits for whoever reads its log.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, address, _config: config }
    }

    fn tunnel(&self, to: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.set_nodelay(true);
        write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").unwrap();
        let mut answer = [0; 39];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        stream
    }

    /// Its anonymous and its resident memory in KiB.
    fn memory(&self) -> (u64, u64) {
        let path = format!("/proc/{}/smaps_rollup", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (field("Anonymous:"), field("Rss:"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
