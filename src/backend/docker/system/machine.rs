//! What the machine itself has of a run: listeners on its loopback, an abstract socket, and one in a folder of the run's own.
//!
//! Nobody beyond the machine reaches them. A bottle that is in the machine's own net namespace does, so there it dials these and
//! the run's other listeners, and nothing else is tried: what it opened would be open to all of the machine's surroundings.

use std::net::SocketAddr;

use claude_bottle_protocol::witness::{
    ABSTRACT_PREFIX, Opened, Service, Transport, UnixListener, UnixName,
};
use rand::RngExt as _;

use super::sites::HOST;
use crate::backend::namespace::real;
use crate::backend::namespace::world::ports;
use crate::lab::{Address, Listening, Sites};
use crate::probe::attempt::fresh_nonce;
use crate::probe::definition::{Method, Site};

/// The sites that the machine stands for.
pub(super) const SITES: &[Site] = &[
    Site::HostGateway,
    Site::ControlPlane,
    Site::RealLoopback,
    Site::RealSockets,
    Site::HostSockets,
];
/// The socket in the run's folder; it stands for the engine's.
pub(super) const SOCKET: &str = "docker.sock";
/// Where that folder is in a container.
pub(super) const FOLDER: &str = "/sockets";
/// Why what is on the loopback of a container is not dialled from the machine's own net namespace.
pub(super) const NOT_THERE: &str =
    "the bottle is in this machine's own network, where somebody else may have that address";
/// What is tried in the machine's own net namespace: what dials one address, or one socket, that a witness of the run is bound to.
const TRIED: &[Method] = &[
    Method::Tcp,
    Method::Udp,
    Method::Http,
    Method::TcpFastOpen,
    Method::Mptcp,
    Method::UdpUnconnected,
    Method::UnixAbstract,
    Method::UnixPath,
    Method::Exec,
];
/// The numbers of the Unix sockets at the witness: beyond those of the listeners.
const ABSTRACT: u32 = 1000;
const PATH: u32 = 1001;

/// The volume that is the run's folder, by the name of its neighbour.
pub(super) fn volume(neighbours: &str) -> String {
    format!("{neighbours}-sockets")
}

/// What is not tried in the machine's own net namespace, and why.
pub(super) fn untried() -> impl Iterator<Item = (Method, &'static str)> {
    let why = "the bottle is in this machine's own network, where nothing is tried but to dial the run's own listeners";
    Method::ALL.iter().filter(|method| !TRIED.contains(method)).map(move |method| (*method, why))
}

/// What is listened on.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// A port of the loopback that no client is given.
    random: u16,
    /// The name of the abstract socket.
    name: String,
    /// The path of the other one, for whoever listens.
    path: String,
}

impl Machine {
    /// With the socket in the file system at `path`.
    pub(super) fn new(path: String) -> Self {
        Self {
            random: rand::rng().random_range(real::RANDOM_PORTS),
            name: format!("{ABSTRACT_PREFIX}{}", fresh_nonce()),
            path,
        }
    }

    /// The path of the socket that has one, for whoever listens.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The addresses on the loopback, each with its port's name.
    pub(super) fn loopback(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        [("discard", ports::DISCARD), ("random", self.random)]
            .into_iter()
            .flat_map(|(name, port)| real::ADDRESSES.map(|ip| (name, SocketAddr::new(ip, port))))
    }

    /// The Unix sockets.
    pub(super) fn sockets(&self) -> Vec<UnixListener> {
        vec![
            UnixListener { id: ABSTRACT, name: UnixName::Abstract(self.name.clone()) },
            UnixListener { id: PATH, name: UnixName::Path(self.path.clone()) },
        ]
    }

    /// Adds the sites that the Unix sockets stand for, now that they are opened.
    pub(super) fn stand(&self, opened: &Opened, sites: &mut Sites) {
        let file = opened.files.iter().find(|(id, _)| *id == PATH);
        let path = file.map(|(_, file)| Address::File { path: self.path.clone(), file: *file });
        let both = [
            (ABSTRACT, Site::RealSockets, "abstract", Some(Address::Abstract(self.name.clone()))),
            (PATH, Site::HostSockets, "path", path),
        ];
        for (id, site, port, address) in both {
            let failed = opened.failed.iter().find(|(failed, _)| *failed == id);
            let address = match (failed, address) {
                (None, Some(address)) => address,
                (why, _) => {
                    let why = why.map(|(_, why)| why.clone()).unwrap_or_default();
                    sites.lacks(site, port, Transport::Unix, why);
                    continue;
                }
            };
            let listening = Listening {
                key: 0,
                id,
                name: format!("{site} unix/{port}"),
                transport: Transport::Unix,
                address: address.clone(),
                service: Service::Echo,
                dialled_as: Vec::new(),
                control: HOST.to_owned(),
                control_dials: address,
            };
            sites.add(site, port, Transport::Unix, listening);
        }
    }
}
