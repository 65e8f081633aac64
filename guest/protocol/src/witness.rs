//! What a witness is told, and what it reports.
//!
//! One witness process serves every listener of a lab. It writes [`Event`]s as lines of JSON to its standard output
//! and reads [`Order`]s as lines of JSON from its standard input; the end of its input ends it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{Nonce, nonce};

/// What a listener listens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A TCP listener.
    Tcp,
    /// A UDP socket.
    Udp,
    /// A Unix stream socket: a [`UnixListener`], never a [`Listener`].
    Unix,
    /// A vsock stream socket: a [`VsockListener`], never a [`Listener`].
    Vsock,
    /// A raw socket that sees ICMP echo requests. Its listener's port is 0.
    Icmp,
    /// A packet socket on every interface of its net namespace. Its listener's port is the ethertype.
    Packet,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::Vsock => "vsock",
            Self::Icmp => "icmp",
            Self::Packet => "packet",
        })
    }
}

/// A listener for the witness to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Unique in the lab.
    pub id: u32,
    /// By which protocol.
    pub transport: Transport,
    /// Where it listens. Port 0: any free one, reported in [`Event::Listening`].
    pub address: SocketAddr,
    /// What it answers with.
    #[serde(default)]
    pub service: Service,
}

/// What a listener answers with. Whatever it is, every nonce is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Each nonce, with itself.
    #[default]
    Echo,
    /// DNS queries, with an address; anything else as [`Service::Echo`] does.
    Resolver,
    /// As [`Service::Echo`]: it is a member of the group that it listens on, or takes broadcasts.
    Segment,
    /// HTTP requests, each with the nonces in it as the response's body; anything else as [`Service::Echo`] does.
    Http,
}

impl Service {
    /// What is said over a connection to a nonce that came in `text`.
    pub fn answer(self, nonce: &Nonce, text: &[u8]) -> String {
        // The line of a request (RFC 9112, section 3).
        let is_request = || text.windows(b" HTTP/1.".len()).any(|window| window == b" HTTP/1.");
        match self {
            Self::Http if is_request() => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{nonce}\n",
                nonce::LEN + 1
            ),
            _ => format!("{nonce}\n"),
        }
    }
}

/// The beginning of the name of every abstract socket that a witness listens on; a nonce follows. A prober connects to
/// no abstract socket whose name does not begin like this: it would be somebody else's.
pub const ABSTRACT_PREFIX: &str = "claude-bottle/";

/// The name of a Unix socket (`unix(7)`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum UnixName {
    /// In the abstract namespace, of which each net namespace has its own; without the leading NUL byte.
    Abstract(String),
    /// In a file system, whatever the net namespace.
    Path(String),
}

/// As `/proc/net/unix` writes it: `@` stands for the NUL byte of abstract names.
impl std::fmt::Display for UnixName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Abstract(name) => write!(f, "@{name}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// A Unix stream socket for the witness to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnixListener {
    /// Unique in the lab, among the [`Listener`]s too.
    pub id: u32,
    /// What it is bound to.
    pub name: UnixName,
}

/// A vsock stream socket on the machine's own loopback (CID 1, `vsock(7)`), for the witness to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockListener {
    /// Unique in the lab, among the [`Listener`]s too.
    pub id: u32,
    /// Its port.
    pub port: u32,
}

/// What a witness outside any lab is asked to open, in the net namespace that it is started in: the first line of its
/// input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its listeners, in groups: those of a group get the port of its first one, any free one where that is 0, or
    /// none of them is opened.
    pub groups: Vec<Vec<Listener>>,
    /// Its Unix sockets.
    pub sockets: Vec<UnixListener>,
}

/// What it has opened: the first line of its output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Each listener's address, ports known.
    pub listening: Vec<(u32, SocketAddr)>,
    /// Which file each Unix socket with a path is.
    pub files: Vec<(u32, crate::prober::SocketFile)>,
    /// What could not be opened, and why.
    pub failed: Vec<(u32, String)>,
}

/// What the witness is asked to do. Each order is one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// Handle whatever is pending on any socket, then answer with [`Event::Drained`].
    Drain,
}

/// Who came, where from, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sighting {
    /// The listener that saw it.
    pub listener: u32,
    /// The sender's address as the listener saw it; none for sockets without one.
    pub peer: Option<SocketAddr>,
    /// Microseconds since the witness started.
    pub at_us: u64,
}

/// What the witness reports. Each event is one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A listener is up.
    Listening {
        /// The listener.
        listener: u32,
        /// Its address, the port known.
        address: SocketAddr,
    },
    /// A connection was accepted. Its nonce, if it sends one, comes as [`Event::Saw`].
    Accepted {
        /// Who and when.
        sighting: Sighting,
        /// The connection, unique per witness.
        connection: u64,
    },
    /// A nonce arrived.
    Saw {
        /// Who and when.
        sighting: Sighting,
        /// The nonce.
        nonce: Nonce,
        /// The connection it came over, if any.
        connection: Option<u64>,
    },
    /// Everything that had arrived before the order has been reported.
    Drained {
        /// Per listener, how many packets or connections the kernel threw away (`sk_drops`); 0 when sound.
        lost: Vec<Lost>,
    },
}

/// What a listener lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// The listener.
    pub listener: u32,
    /// Packets or connections dropped by the kernel before the witness could see them, or dropped by the witness
    /// itself because too many were open.
    pub drops: u64,
}
