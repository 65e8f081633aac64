//! Where a Docker daemon listens, and whether it takes a connection.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bollard::errors::Error as ClientError;
use bollard::models::SystemVersion;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker as Client};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::facts::Lack;

/// Where the daemon listens unless `DOCKER_HOST` says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The port of a `tcp://` endpoint that names none.
const DEFAULT_PORT: u16 = 2375;
/// Loopback answers at once; this only bounds a listener whose queue is full.
const LOOPBACK_TIMEOUT: Duration = Duration::from_millis(200);

/// A Docker daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Docker {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Whether it took a connection at detection. An endpoint beyond loopback is believed, not dialled.
    pub connected: bool,
}

/// The variable that says which engine bottles under test are made on.
pub const ENGINE: &str = "CLAUDE_BOTTLE_DOCKER_ENGINE";

/// Which engine bottles under test are made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// One of the run's own: a whole hermetic host, on which every site is there. Takes root and `dockerd`.
    Private,
    /// The machine's own, which `DOCKER_HOST` names: only sites that a witness of the run can be bound to.
    System,
}

impl EngineKind {
    /// The words for them.
    pub const WORDS: [&str; 2] = ["private", "system"];
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "private" => Ok(Self::Private),
            "system" => Ok(Self::System),
            _ => Err(format!(
                "{text:?} is no kind of engine: there are {}",
                Self::WORDS.join(" and ")
            )),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Private => "private",
            Self::System => "system",
        })
    }
}

/// Reads what [`ENGINE`] says; nothing, where it is not set.
pub(super) fn wanted(text: Option<&str>) -> Result<Option<EngineKind>, Lack> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => {
            text.parse().map(Some).map_err(|error| Lack::new(format!("{ENGINE}: {error}")))
        }
    }
}

/// Where a Docker daemon listens, in the syntax of `DOCKER_HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:///var/run/docker.sock`
    Unix(PathBuf),
    /// `tcp://127.0.0.1:2375`, `tcp://docker`, `tcp://[::1]:2375`
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port; 2375 where none is named.
        port: u16,
    },
}

/// What is wrong with a `DOCKER_HOST`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Another transport, such as `ssh`; or none.
    #[error("{text:?} is neither unix:// nor tcp://")]
    Scheme {
        /// All of it.
        text: String,
    },
    /// No host and port.
    #[error("{text:?} names no host and port")]
    Address {
        /// All of it.
        text: String,
    },
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::Unix(DEFAULT_SOCKET.into())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(if path.is_empty() { Self::default() } else { Self::Unix(path.into()) });
        }
        let Some(authority) = text.strip_prefix("tcp://") else {
            return Err(EndpointError::Scheme { text: text.to_owned() });
        };
        tcp(authority.trim_end_matches('/'))
            .ok_or_else(|| EndpointError::Address { text: text.to_owned() })
    }
}

/// Reads `host`, `host:port`, `[address]` or `[address]:port`.
fn tcp(authority: &str) -> Option<Endpoint> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        match port {
            "" => (address, None),
            _ => (address, Some(port.strip_prefix(':')?)),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok())?;
    let sound = !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace());
    sound.then(|| Endpoint::Tcp { host: host.to_owned(), port })
}

impl Endpoint {
    /// A client of the daemon that listens there, at the version of the API that both know. Each of its calls may take
    /// `patience`.
    ///
    /// # Errors
    ///
    /// That of asking for the version: nothing was asked before.
    pub async fn client(&self, patience: Duration) -> Result<Client, ClientError> {
        Ok(self.answering(patience).await?.0)
    }

    /// The same, with what the daemon says of its version: it starts programs to find out, so that it is asked once.
    pub(crate) async fn answering(
        &self,
        patience: Duration,
    ) -> Result<(Client, SystemVersion), ClientError> {
        let client = self.connect(patience, API_DEFAULT_VERSION)?;
        let version = client.version().await?;
        let theirs = version.api_version.as_deref().and_then(api);
        let theirs = theirs.ok_or(ClientError::APIVersionParseError {})?;
        let spoken =
            if theirs < client.client_version() { theirs } else { client.client_version() };
        Ok((self.connect(patience, &spoken)?, version))
    }

    /// A client, which has not asked anything yet.
    fn connect(&self, patience: Duration, api: &ClientVersion) -> Result<Client, ClientError> {
        let (address, seconds) = (self.to_string(), patience.as_secs());
        match self {
            Self::Unix(_) => Client::connect_with_unix(&address, seconds, api),
            Self::Tcp { .. } => Client::connect_with_http(&address, seconds, api),
        }
    }
}

/// Reads the version of an API, such as `1.41`.
fn api(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(out, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(out, "tcp://{host}:{port}"),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// Finds the daemon that is named, and by what, below the folder `root`.
pub(super) fn find(root: &Path, named: Option<(&str, &str)>) -> Result<Docker, Lack> {
    let endpoint = match named {
        None => Endpoint::default(),
        Some((by, text)) => text.parse().map_err(|error| {
            Lack::new(format!("{by} {error}"))
                .fixed_by("set DOCKER_HOST to unix:///PATH or tcp://HOST:PORT")
        })?,
    };
    let connected = match &endpoint {
        Endpoint::Unix(path) => match UnixStream::connect(super::detect::below(root, path)) {
            Ok(_) => Ok(true),
            Err(error) => Err(unix_lack(path, &error)),
        },
        Endpoint::Tcp { host, port } => knock_loopback(host, *port).map_err(|error| {
            Lack::new(format!("{endpoint}: {error}"))
                .fixed_by("start the Docker daemon there, or set DOCKER_HOST to another one")
        }),
    }?;
    Ok(Docker { endpoint, connected })
}

fn unix_lack(path: &Path, error: &io::Error) -> Lack {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => Lack::new(format!("{path} does not exist"))
            .fixed_by("install and start Docker, or set DOCKER_HOST"),
        io::ErrorKind::PermissionDenied => Lack::new(format!("permission denied on {path}"))
            .fixed_by("add yourself to the group docker, or run as root"),
        io::ErrorKind::ConnectionRefused => Lack::new(format!("nothing listens on {path}"))
            .fixed_by("start the Docker daemon, or set DOCKER_HOST"),
        _ => Lack::new(format!("cannot connect to {path}: {error}")),
    }
}

/// Dials a loopback endpoint; anything else is out of bounds for a look at this machine, names included, since
/// resolving one asks another machine.
fn knock_loopback(host: &str, port: u16) -> io::Result<bool> {
    let addresses: &[IpAddr] = match (host, host.parse::<IpAddr>()) {
        ("localhost", _) => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        (_, Ok(address)) if address.is_loopback() => &[address],
        _ => return Ok(false),
    };
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(*address, port), LOOPBACK_TIMEOUT) {
            Ok(_) => return Ok(true),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn endpoints_that_are_understood() {
        for (text, canonical) in [
            ("unix:///run/user/1000/docker.sock", "unix:///run/user/1000/docker.sock"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("tcp://127.0.0.1:4243", "tcp://127.0.0.1:4243"),
            ("tcp://docker", "tcp://docker:2375"),
            ("tcp://docker:2376/", "tcp://docker:2376"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://[2001:db8::1]:99", "tcp://[2001:db8::1]:99"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(endpoint), "{text} comes back");
        }
    }

    #[test]
    fn endpoints_that_are_refused() {
        for text in [
            "ssh://me@there",
            "npipe:////./pipe/docker_engine",
            "127.0.0.1:2375",
            "/var/run/docker.sock",
        ] {
            assert_eq!(
                text.parse::<Endpoint>(),
                Err(EndpointError::Scheme { text: text.to_owned() })
            );
        }
        for text in [
            "tcp://",
            "tcp://:2375",
            "tcp://host:port",
            "tcp://host:65536",
            "tcp://::1:2375",
            "tcp://[::1",
            "tcp://[::1]2375",
            "tcp://[host]:1",
            "tcp://host/path",
            "tcp://a b",
        ] {
            assert_eq!(
                text.parse::<Endpoint>(),
                Err(EndpointError::Address { text: text.to_owned() })
            );
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "what is named or not")]
    fn said(text: &str) -> Option<(&str, &str)> {
        Some(("DOCKER_HOST", text))
    }

    /// A folder with `/var/run`, and the path of the socket in it.
    fn machine() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir_all(root.path().join("var/run")).expect("mkdir");
        let socket = root.path().join("var/run/docker.sock");
        (root, socket)
    }

    fn why(found: Result<Docker, Lack>) -> String {
        found.expect_err("no docker").to_string()
    }

    #[test]
    fn a_socket_that_listens() {
        let (root, socket) = machine();
        let _listener = UnixListener::bind(socket).expect("bind");
        for named in [None, said("unix:///var/run/docker.sock")] {
            assert_eq!(
                find(root.path(), named),
                Ok(Docker { endpoint: Endpoint::default(), connected: true })
            );
        }
    }

    #[test]
    fn sockets_that_do_not_listen() {
        let (root, socket) = machine();
        assert_eq!(
            why(find(root.path(), None)),
            "/var/run/docker.sock does not exist (install and start Docker, or set DOCKER_HOST)"
        );
        assert_eq!(
            why(find(root.path(), said("unix:///elsewhere.sock"))),
            "/elsewhere.sock does not exist (install and start Docker, or set DOCKER_HOST)"
        );
        drop(UnixListener::bind(&socket).expect("bind"));
        assert_eq!(
            why(find(root.path(), None)),
            "nothing listens on /var/run/docker.sock (start the Docker daemon, or set DOCKER_HOST)"
        );
    }

    /// Not tried with a real socket: root, who runs the tests in many a container, is refused nothing.
    #[test]
    fn a_socket_that_is_not_for_us() {
        let lack = unix_lack(Path::new(DEFAULT_SOCKET), &io::ErrorKind::PermissionDenied.into());
        assert_eq!(
            lack.to_string(),
            "permission denied on /var/run/docker.sock (add yourself to the group docker, or run as root)"
        );
    }

    #[test]
    fn tcp_on_loopback_is_dialled() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let port = listener.local_addr().expect("address").port();
        let (root, _) = machine();
        for host in ["127.0.0.1", "localhost"] {
            let docker = find(root.path(), said(&format!("tcp://{host}:{port}"))).expect(host);
            assert!(docker.connected, "{host}");
        }
        // The client's end of a connection holds its port, and nothing listens there.
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
        let port = client.local_addr().expect("address").port();
        let why = why(find(root.path(), said(&format!("tcp://127.0.0.1:{port}"))));
        assert!(why.starts_with(&format!("tcp://127.0.0.1:{port}: Connection refused")), "{why}");
    }

    #[test]
    fn tcp_elsewhere_is_believed_and_not_dialled() {
        let (root, _) = machine();
        // Set aside for documentation (RFC 5737), and a name that nobody has (RFC 2606).
        for host in ["192.0.2.1", "docker.invalid"] {
            let docker = find(root.path(), said(&format!("tcp://{host}:2375"))).expect(host);
            assert!(!docker.connected, "{host}");
        }
    }

    #[test]
    fn a_docker_host_of_another_kind() {
        let (root, _) = machine();
        assert_eq!(
            why(find(root.path(), said("ssh://me@there"))),
            "DOCKER_HOST \"ssh://me@there\" is neither unix:// nor tcp:// (set DOCKER_HOST to unix:///PATH or tcp://HOST:PORT)"
        );
    }
}
