//! What the launcher asks of a prober, and what the prober answers.
//!
//! The launcher writes one [`Batch`] as one line of JSON to the prober's standard input. The prober answers with
//! [`Line`]s of JSON: one [`Line::Hello`], then per attempt one [`Line::Done`] in the order in which they end, then
//! [`Line::Bye`]. All of it is annotation: what a witness saw decides.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Nonce;

/// All attempts that one prober makes, in one exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Sent back in [`Line::Hello`]: shows that the answer belongs to this batch.
    pub token: Nonce,
    /// What the prober may dial.
    pub fuse: Fuse,
    /// The attempts. All of them run at the same time.
    pub attempts: Vec<Attempt>,
}

/// What a prober may dial besides loopback. It refuses everything else, whatever an attempt says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fuse {
    /// Anything, provided that the prober's own network namespace has one of these inode numbers. An empty
    /// list leaves loopback alone.
    Namespaces(Vec<u64>),
    /// Exactly these addresses, wherever the prober runs: the target's namespace is not known beforehand.
    Addresses(Vec<SocketAddr>),
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Unique in the batch.
    pub id: u32,
    /// The token to deliver.
    pub nonce: Nonce,
    /// How long to try, in milliseconds.
    pub patience_ms: u32,
    /// What to do.
    pub action: Action,
}

/// The one thing that an attempt does. One guest module each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Connect over TCP, send the nonce, read the answer.
    Tcp(Target),
    /// Send an HTTP request with the nonce in its `User-Agent`, wait for the answer.
    Http(Request),
    /// Send the nonce in one UDP datagram, wait for the answer.
    Udp(Target),
    /// Connect over TCP with the nonce in the first packet (`MSG_FASTOPEN`, RFC 7413).
    TcpFastOpen(Target),
    /// Connect over multipath TCP (RFC 8684), send the nonce, read the answer.
    Mptcp(Target),
    /// Send the nonce in a datagram of a UDP socket that was never connected.
    UdpUnconnected(Target),
    /// Send the nonce to a multicast group, or as a broadcast, on every interface.
    Multicast(Target),
    /// Send the nonce in an ICMP echo of an unprivileged ping socket (`icmp(7)`). The port means nothing.
    PingSocket(Target),
    /// Send the nonce in an ICMP echo of a raw socket (`raw(7)`). The port means nothing.
    RawIcmp(Target),
    /// Send the nonce in a UDP datagram whose headers are made by hand, from a raw socket.
    RawUdp(Target),
    /// Broadcast the nonce in an Ethernet frame on every interface (`packet(7)`); the port is its ethertype.
    Frame(Target),
    /// The same from a socket that was made by `io_uring` instead of `socket(2)`.
    UringFrame(Target),
    /// The same from a socket that was made by the 32-bit system call.
    Frame32(Target),
    /// Broadcast an ARP reply that claims the target's address, the nonce behind it. The port means nothing.
    ForgedArp(Target),
    /// Say that the prober ran; dials nothing.
    Idle,
    /// Look up a name with the nonce as its first label over UDP.
    DnsUdp(Lookup),
    /// Look up a name with the nonce as its first label over TCP.
    DnsTcp(Lookup),
    /// Connect to a Unix socket in the abstract namespace, send the nonce, read the answer. The name is that of a
    /// witness's socket, without the leading NUL byte.
    UnixAbstract(String),
    /// Connect to Unix sockets in the file system, send the nonce, read the answer.
    UnixPath(Paths),
    /// Send the nonce from each TCP socket that the prober has inherited.
    InheritedTcp(Inherited),
    /// Send the nonce from each UDP socket that the prober has inherited.
    InheritedUdp(Inherited),
    /// Send the nonce over each TCP connection to the target that the prober has inherited, and open none.
    EstablishedTcp(Inherited),
    /// Connect over vsock to this port of the machine's own loopback (CID 1), send the nonce, read the answer.
    Vsock(u32),
    /// Make a socket of every family that ignores net namespaces, beside an ordinary one, and keep them until released.
    ForeignSockets,
    /// Listen on TCP and UDP, on one port of every address, until released; answer each nonce that comes with itself.
    Listen,
    /// Connect to every TCP port of one address, and send the nonce where that succeeds.
    Sweep(Sweep),
    /// Change the net namespace's configuration.
    Reconfigure(Change),
    /// Start a process in user and net namespaces of its own, and keep it until released.
    Unshare,
    /// Enter each other net namespace that can be seen in `/proc`, and connect over TCP from there.
    EnterNamespace(Target),
    /// Take each UDP socket of each other process that can be seen in `/proc`, and send the nonce over it.
    StealSocket(Target),
    /// Ask the bundle's forward proxy to carry the nonce on.
    Proxied(Proxied),
}

/// What a forward proxy is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxied {
    /// The proxy.
    pub proxy: Target,
    /// How it is asked.
    pub asks: Asks,
    /// For what: a host as a client would spell it to the proxy, IPv6 in brackets, and a port.
    pub target: Target,
    /// A name that the proxy lets through, behind which [`Asks`] of some kinds hide.
    pub allowed: String,
}

/// How a forward proxy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asks {
    /// For a tunnel (`CONNECT`, RFC 9110 §9.3.6), in which it goes on as the port is used: TLS on 443, HTTP on 80.
    Connect,
    /// For a URL (the absolute form, RFC 9112 §3.2.2).
    Get,
    /// For a tunnel to the allowed name, in which TLS begins for the target (RFC 6066 §3).
    ForeignSni,
    /// For a URL of the allowed name, with the target as its `Host`.
    ForeignHost,
    /// For a URL of the allowed name, with two lengths; the target's URL is in its body (RFC 9112 §11.2).
    Smuggled,
}

/// Every port of an address but some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The address, in any spelling.
    pub host: String,
    /// The ports that are left out.
    pub except: Vec<u16>,
}

/// An HTTP/1.1 request without a body (RFC 9112).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Who is asked.
    pub target: Target,
    /// Its method and path: `GET /_ping`.
    pub line: String,
    /// Headers besides `Host`, `User-Agent` and `Connection`: `Metadata: true`.
    pub headers: Vec<String>,
}

impl Request {
    /// The request as a real client would send it. The nonce is in a header that servers take no notice of, so that path and headers
    /// are what the definition says.
    pub fn message(&self, nonce: &Nonce) -> String {
        let Self { target, line, headers } = self;
        // Neither is the guest's to choose; a line break in one would make it two.
        let clean = |text: &str| text.replace(['\r', '\n'], "");
        let mut message = format!("{} HTTP/1.1\r\nHost: {}\r\n", clean(line), authority(target));
        for header in headers {
            message.push_str(&clean(header));
            message.push_str("\r\n");
        }
        message + &format!("User-Agent: claude-bottle/{nonce}\r\nConnection: close\r\n\r\n")
    }
}

/// An IPv6 address is written in brackets (RFC 3986, section 3.2.2).
fn authority(target: &Target) -> String {
    let host = &target.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    if target.port == 80 { host } else { format!("{host}:{}", target.port) }
}

/// What inherited sockets may be used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inherited {
    /// Where to send the nonce: a literal address.
    pub target: Target,
    /// The net namespaces of the lab, by their cookies (`SO_NETNS_COOKIE`, `socket(7)`). A socket that is in none of
    /// them is told of, and not used: it leads into the real world.
    pub namespaces: Vec<u64>,
}

/// A look-up of a name that begins with the attempt's nonce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Who is asked.
    pub server: Server,
    /// How the name goes on after the nonce, without the dot between: `lab.test`.
    pub below: String,
    /// Ask a second time, and connect over TCP to this port of the address that the second answer gives.
    #[serde(default)]
    pub then_connect: Option<u16>,
}

/// Who is asked for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Server {
    /// Each `nameserver` of the bottle's `/etc/resolv.conf` at port 53; without any 127.0.0.1, as `resolv.conf(5)`
    /// says.
    Configured,
    /// This one.
    At(Target),
}

/// Unix sockets in the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// Where to look. Empty: at every well-known place, in the environment, in folders where sockets usually are, and
    /// in `/proc/net/unix`.
    pub paths: Vec<String>,
    /// The witness's sockets. A socket that is none of them is told of, and not connected to: it is somebody's.
    pub ours: Vec<SocketFile>,
}

/// Which file a socket is, wherever it has been mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketFile {
    /// The number of its file system (`st_dev`).
    pub device: u64,
    /// Its number there (`st_ino`).
    pub inode: u64,
}

/// A change to a net namespace's configuration: harmless, since it concerns documentation addresses alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// Add 192.0.2.77/32 to `lo`.
    Address,
    /// Add a route by which 198.51.100.77 is unreachable.
    Route,
    /// Make a veth pair.
    Link,
    /// Make a table of the packet filter, without chains.
    Firewall,
}

/// Where an attempt goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// An address in any spelling that a client accepts (`127.0.0.1`, `::ffff:127.0.0.1`, `2130706433`), or a name
    /// that the bottle's own `/etc/hosts` or the rules for `localhost` resolve.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// One line of a prober's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Line {
    /// The prober runs.
    Hello {
        /// The toolbox's [`crate::VERSION`].
        version: String,
        /// The batch's token.
        token: Nonce,
        /// The inode number of the prober's network namespace, where it can be read.
        netns: Option<u64>,
    },
    /// An attempt waits until the end of the prober's input, so that the outside can look, or dial in.
    Ready {
        /// The attempt.
        id: u32,
        /// The port it listens on, if it does.
        port: Option<u16>,
    },
    /// An attempt has ended.
    Done {
        /// The attempt.
        id: u32,
        /// What the prober says happened.
        word: Word,
        /// How long it took, in microseconds.
        took_us: u64,
    },
    /// Every attempt has ended.
    Bye {
        /// How many [`Line::Done`] there were.
        attempts: u32,
    },
}

/// What a prober says of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// How it ended.
    pub how: How,
    /// The errno behind it, if a system call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The local address that was used, where one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The address dialled, once a name or a spelling had been resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialled: Option<IpAddr>,
    /// Anything else worth telling, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Word {
    /// A word with nothing but how the attempt ended.
    pub fn new(how: How) -> Self {
        Self { how, errno: None, local: None, dialled: None, detail: None }
    }
}

/// How an attempt ended, as its client saw it.
///
/// The errnos behind each are those of Linux; see `connect(2)`, `ip(7)`, `udp(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// An answer with the attempt's nonce came back.
    Answered,
    /// The connection was established; no answer came.
    Connected,
    /// A datagram or frame left without an error; no answer came.
    Sent,
    /// `ECONNREFUSED` or `ECONNRESET`: a closed port, or a firewall that says so.
    Refused,
    /// `ENETUNREACH`, `EHOSTUNREACH`, `EADDRNOTAVAIL`, `EINVAL` from a blackhole route: no way there.
    Unreachable,
    /// `EACCES` or `EPERM`: a route or a policy forbids it.
    Prohibited,
    /// Nothing came back in time.
    TimedOut,
    /// The socket itself could not be made: `EPERM`, `EACCES`, `EAFNOSUPPORT`, `EPROTONOSUPPORT`.
    SocketDenied,
    /// The name has no address in there.
    NotResolved,
    /// The proxy answered that it will not.
    DeniedByProxy,
    /// The fuse kept the prober from dialling.
    Fused,
    /// The guest lacks what the attempt needs, or something unforeseen failed.
    Failed,
}

impl How {
    /// All of them, in the order of the declaration.
    pub const ALL: [Self; 12] = [
        Self::Answered,
        Self::Connected,
        Self::Sent,
        Self::Refused,
        Self::Unreachable,
        Self::Prohibited,
        Self::TimedOut,
        Self::SocketDenied,
        Self::NotResolved,
        Self::DeniedByProxy,
        Self::Fused,
        Self::Failed,
    ];

    /// The word used in definitions and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Connected => "connected",
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Prohibited => "prohibited",
            Self::TimedOut => "timed-out",
            Self::SocketDenied => "socket-denied",
            Self::NotResolved => "not-resolved",
            Self::DeniedByProxy => "denied-by-proxy",
            Self::Fused => "fused",
            Self::Failed => "failed",
        }
    }

    /// Whether the client believes that something got through.
    pub fn claims_reach(self) -> bool {
        matches!(self, Self::Answered | Self::Connected)
    }
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_how_is_written_as_serde_writes_it() {
        for how in How::ALL {
            assert_eq!(serde_json::to_string(&how).unwrap(), format!("\"{how}\""));
        }
    }

    #[test]
    fn a_request_has_the_definitions_headers_and_the_nonce() {
        let nonce = Nonce::from_bits(7);
        let request = Request {
            target: Target { host: "fd00:ec2::254".into(), port: 80 },
            line: "PUT /latest/api/token".into(),
            headers: vec!["X-aws-ec2-metadata-token-ttl-seconds: 60".into()],
        };
        let expected = format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: [fd00:ec2::254]\r\n\
             X-aws-ec2-metadata-token-ttl-seconds: 60\r\nUser-Agent: claude-bottle/{nonce}\r\n\
             Connection: close\r\n\r\n"
        );
        assert_eq!(request.message(&nonce), expected);
        let forged = Request { headers: vec!["A: 1\r\n\r\nGET / ".into()], ..request };
        assert_eq!(forged.message(&nonce).matches("\r\n\r\n").count(), 1);
    }
}
