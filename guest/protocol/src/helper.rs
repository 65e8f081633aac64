//! What the launcher asks of the namespace helper, and what it answers.
//!
//! The two share a `SOCK_SEQPACKET` pair: one message is one datagram of JSON, at most [`MAX_MESSAGE`] bytes long.
//! Descriptors (a command's standard streams) travel beside a request. When the launcher's end closes, the helper
//! ends, and with it every process and namespace that it made.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::gateway::Weakness;
use crate::prober::SocketFile;
use crate::witness::{Listener, Transport, UnixListener, VsockListener};

/// The longest message in bytes: below the kernel's default `net.core.wmem_default` of 212,992.
pub const MAX_MESSAGE: usize = 160 * 1024;

/// The net namespace that the launcher itself runs in: never made, never configured. Only the witness's loopback
/// listeners live there, which the launcher opens, and a bottle under the breach `no-network-namespace`.
pub const REAL: &str = "real";

/// The entry of [`Reply::Observed`] that is no file of `/proc/self/net`: processes in net namespaces that the helper did
/// not make, a line each.
pub const STRAYS: &str = "strays";

/// Another one: the packet filter's tables (`nftables`), a line each, such as `1 filter`. Not there where they cannot be read.
pub const FIREWALL: &str = "firewall";

/// Another one: listening TCP and unconnected UDP sockets, a line each, such as `tcp 127.0.0.1:9099`.
pub const LISTENING: &str = "listening";

/// Another one: the sockets that processes in this net namespace hold, a line each, such as `7 UDP`: the process, and what the
/// kernel calls the protocol. Only of processes below the helper.
pub const SOCKETS: &str = "sockets";

/// Net namespaces, the wires between them, and the listeners in them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lab {
    /// The net namespaces.
    pub nets: Vec<Net>,
    /// The veth pairs between them.
    pub links: Vec<Link>,
    /// The witness's listeners.
    pub listeners: Vec<Placed>,
    /// Listeners that the launcher has opened in its own net namespace, for the witness to serve: their descriptors
    /// follow the three standard streams, in this order.
    pub adopted: Vec<Listener>,
    /// The witness's Unix sockets.
    pub sockets: Vec<PlacedUnix>,
    /// Unix sockets that the launcher has opened in its own net namespace: their descriptors follow those of
    /// [`Lab::adopted`], in this order.
    pub adopted_sockets: Vec<UnixListener>,
    /// A vsock listener that the launcher has opened on this machine's own loopback: its descriptor follows those.
    #[serde(default)]
    pub adopted_vsock: Option<VsockListener>,
    /// A folder that exists, over which the helper mounts an empty file system in memory before it opens the
    /// [`Lab::sockets`] with paths there. It does so in its own mount namespace: the host sees nothing of it, and it is
    /// gone with the helper.
    pub folder: Option<String>,
}

/// One net namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// Its name in the lab.
    pub name: String,
    /// Whether it has IPv6 at all.
    pub ipv6: bool,
    /// Whether it forwards packets between its interfaces.
    pub forward: bool,
    /// Its addresses besides those of loopback.
    pub addresses: Vec<Address>,
    /// Its routes besides those that the addresses bring.
    pub routes: Vec<Route>,
    /// `/proc/sys/net` settings: a path below that folder, and a value.
    pub sysctls: BTreeMap<String, String>,
    /// Where another maker's net namespace is meant: a process in it, by its id in the helper's PID namespace. Nothing is
    /// configured there; addresses and routes only tell the launcher what the other maker has planned.
    #[serde(default)]
    pub of_process: Option<u32>,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The interface.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// The prefix length in bits.
    pub prefix: u8,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The destination; `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: IpAddr,
    /// The prefix length in bits.
    pub prefix: u8,
    /// The next hop; none: on the link.
    pub via: Option<IpAddr>,
    /// The interface.
    pub interface: String,
}

/// A veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// One end.
    pub a: End,
    /// The other.
    pub b: End,
}

/// One end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The net namespace.
    pub net: String,
    /// The interface's name there.
    pub interface: String,
}

/// A listener and the net namespace it listens in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// The net namespace.
    pub net: String,
    /// The listener.
    pub listener: Listener,
    /// Listeners of one net with the same number here, and port 0, get one port: whichever is free for all of them.
    pub same_port: Option<u32>,
}

/// A Unix socket of the witness, and the net namespace that it is made in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedUnix {
    /// The net namespace.
    pub net: String,
    /// The socket.
    pub listener: UnixListener,
}

/// The bottle's walls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "one wall each, told apart by their names")]
pub struct Bottle {
    /// The net namespace it lives in, or [`REAL`] under a breach.
    pub net: String,
    /// Its host name.
    pub hostname: String,
    /// The names in its `/etc/hosts`, besides `localhost`.
    pub hosts: Vec<(IpAddr, String)>,
    /// Variables of every command.
    pub env: BTreeMap<String, String>,
    /// Folders and files of the host, shown inside.
    pub mounts: Vec<Mount>,
    /// Whether files in it can be executed; always, but under a breach.
    pub executable: bool,
    /// Whether it has a PID namespace of its own; always, but under a breach.
    pub own_processes: bool,
    /// Whether the filter on system calls is on; always, but under a breach.
    pub seccomp: bool,
    /// Whether the filter lets commands use `io_uring`; never, but under a breach.
    pub io_uring: bool,
    /// Whether a command may make user namespaces; never, but under a breach.
    pub user_namespaces: bool,
    /// Capabilities (names such as `NET_RAW`) that its commands have over the bottle's net namespace; none, but
    /// under a breach.
    pub capabilities: Vec<String>,
    /// The resolvers in its `/etc/resolv.conf`; none, but under a breach.
    #[serde(default)]
    pub nameservers: Vec<IpAddr>,
    /// Sockets that its commands inherit; none, but under a breach.
    #[serde(default)]
    pub left_open: Vec<LeftOpen>,
}

/// A socket that somebody forgot to close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOpen {
    /// The net namespace that it was made in, and stays in.
    pub net: String,
    /// TCP or UDP, over IPv4.
    pub transport: Transport,
    /// Whom it was connected to before the bottle's walls were up; none: it is unbound and unconnected.
    #[serde(default)]
    pub connected: Option<SocketAddr>,
}

/// A resolver that hands every query on to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forwarder {
    /// The net namespace that it listens in.
    pub listens_in: String,
    /// Where it listens, over UDP and TCP.
    pub listens_on: SocketAddr,
    /// The net namespace that it asks from.
    pub asks_from: String,
    /// Whom it asks.
    pub asks: SocketAddr,
}

/// The bottle's forward proxy: its listening socket is of one net namespace, and it dials from another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// The net namespace that it listens in.
    pub listens_in: String,
    /// Where it listens.
    pub listens_on: SocketAddr,
    /// The net namespace that it resolves names and dials from.
    pub dials_from: String,
    /// What it is made to overlook: nothing, but under a breach.
    #[serde(default)]
    pub weakness: Option<Weakness>,
}

/// A folder or file of the host, shown inside a bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The path on the host.
    pub source: String,
    /// The path in the bottle.
    pub target: String,
    /// Whether the bottle may write there.
    pub writable: bool,
}

/// A process for the helper to start. Its standard streams are the three descriptors beside the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Process {
    /// A prober outside the bottle, in this net namespace: it sends the controls.
    Prober {
        /// The net namespace.
        net: String,
    },
    /// The bundle's init, PID 1 of its own PID namespace.
    Init {
        /// The net namespace.
        net: String,
        /// Its environment: `BOTTLE_DAEMONS` and the daemons' own variables.
        env: BTreeMap<String, String>,
    },
    /// A bottle; its first process is the session.
    Bottle(Bottle),
    /// A resolver that forwards. It writes one byte to its standard output when it listens.
    Forwarder(Forwarder),
    /// The gateway. Two descriptors follow the standard streams: the program, and its configuration. It writes a line to its
    /// standard output when it listens.
    Gateway(Gateway),
    /// A program of the host's. Only a privileged helper starts one.
    Program(Program),
    /// A command that a person gave, which makes a sandbox of its own. Only a helper in a user namespace starts one.
    Command(Command),
}

/// A command that a person gave, run in one of the lab's net namespaces with the launcher's own environment. It is root of
/// the helper's user namespace, or somebody without capabilities in a further one: whatever it makes, the kernel lets it
/// reach nothing but the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The net namespace.
    pub net: String,
    /// The program, which is looked for in `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// The ids of the ordinary user that it runs as; none: as root.
    pub user: Option<(u32, u32)>,
    /// What `/etc/resolv.conf` is to say, in the helper's own mount namespace.
    pub resolv_conf: String,
    /// The folder of [`Lab::folder`], in which that file is put.
    pub folder: String,
}

/// A program of the host's, run in one of the lab's net namespaces, maybe with a folder of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The net namespace.
    pub net: String,
    /// The program, by its whole path, and its arguments.
    pub argv: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// A folder that exists, over which the helper mounts an empty file system in memory: nobody else sees what is
    /// written there, and it is gone with the helper. None: what is mounted already stays.
    pub folder: Option<String>,
    /// Files to write in it, by their names.
    pub files: BTreeMap<String, String>,
    /// Which of these files are shown at another path as well, in place of the file that exists there.
    pub shown: BTreeMap<String, String>,
}

/// What the launcher asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Make a lab and start its witness, whose standard streams are beside this request. Sent again it makes a further
    /// part, with a witness of its own; all net namespaces can be named from then on. Answer: [`Reply::Built`].
    Build {
        /// What to make.
        lab: Lab,
    },
    /// Start a process. Answers: [`Reply::Started`], and [`Reply::Exited`] when it ends.
    Start {
        /// Unique number chosen by the launcher.
        id: u32,
        /// What to start.
        process: Process,
    },
    /// Send a signal to a process that was started.
    Signal {
        /// The process.
        id: u32,
        /// The signal's number.
        signal: i32,
    },
    /// Read a net namespace's state from outside. Answer: [`Reply::Observed`].
    Observe {
        /// The net namespace.
        net: String,
    },
}

/// What the helper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// The helper has its user, mount and PID namespaces.
    Ready,
    /// The lab stands and its witness listens.
    Built {
        /// The inode number of each net namespace.
        inodes: BTreeMap<String, u64>,
        /// Each listener's address, ports known. (A tagged enum cannot read a map with numbers as keys.)
        listening: Vec<(u32, SocketAddr)>,
        /// Which file each Unix socket with a path is.
        #[serde(default)]
        files: Vec<(u32, SocketFile)>,
        /// The cookie of each net namespace (`SO_NETNS_COOKIE`); none before Linux 5.14.
        #[serde(default)]
        cookies: Vec<u64>,
    },
    /// A process runs.
    Started {
        /// Its number.
        id: u32,
    },
    /// A process has ended.
    Exited {
        /// Its number.
        id: u32,
        /// Its exit code, or 128 + the signal that killed it.
        code: i32,
    },
    /// The content of files below `/proc/self/net`, read in that namespace.
    Observed {
        /// The net namespace.
        net: String,
        /// File name → content, cut at 16 KiB.
        files: BTreeMap<String, String>,
    },
    /// A request failed. After a failed [`Request::Build`] the helper ends.
    Failed {
        /// What was being done, such as `unshare a user namespace`.
        what: String,
        /// The errno of the failing system call, 0 if none.
        errno: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_can_be_read_back() {
        let replies = [
            Reply::Ready,
            Reply::Built {
                inodes: [("host".to_owned(), 7)].into(),
                listening: vec![(1, "127.0.0.1:9".parse().unwrap())],
                files: vec![(2, SocketFile { device: 1, inode: 2 })],
                cookies: vec![3],
            },
            Reply::Started { id: 1 },
            Reply::Exited { id: 1, code: 137 },
            Reply::Observed { net: "host".into(), files: BTreeMap::new() },
            Reply::Failed { what: "try".into(), errno: 1 },
        ];
        for reply in replies {
            let text = serde_json::to_string(&reply).unwrap();
            assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply, "{text}");
        }
    }
}
