//! The Unix sockets that the witness listens on.
//!
//! Those with paths are in a file system in memory that the helper mounts for them in its own mount namespace: the host
//! never sees it. The bottle does not either, but under a breach that mounts one of them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{SocketAddr, UnixListener as Listener};

use claude_bottle_protocol::helper::{PlacedUnix, REAL};
use claude_bottle_protocol::prober::SocketFile;
use claude_bottle_protocol::witness::{
    ABSTRACT_PREFIX, Service, Transport, UnixListener, UnixName,
};

use super::net;
use crate::lab::{Address, Listening, Sites};
use crate::probe::attempt::fresh_nonce;
use crate::probe::definition::Site;
use crate::sys;

/// What the helper mounts the sockets' file system over. It exists everywhere, and nothing that a bottle is shown is
/// ever below it.
pub(super) const FOLDER: &str = "/sys";
/// The file name of the Docker engine's socket.
pub(super) const DOCKER: &str = "docker.sock";
/// The file name of the ssh-agent's socket.
pub(super) const SSH_AGENT: &str = "ssh-agent.sock";
/// The file name of the D-Bus session's socket.
pub(super) const SESSION_BUS: &str = "bus";

/// The numbers of these listeners begin here, above those of any post.
const FIRST: u32 = 10_000;

/// Where the helper has the socket with this file name.
pub(super) fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// The Unix sockets of a lab.
#[derive(Debug, Clone)]
pub(super) struct Sockets {
    host: Vec<UnixListener>,
    real: UnixListener,
    /// Why the one on the real host could not be opened.
    absent: Option<String>,
}

impl Sockets {
    /// Those of a sound lab.
    pub(super) fn sound() -> Self {
        let mut names = vec![unique()];
        names.extend([DOCKER, SSH_AGENT, SESSION_BUS].map(|name| UnixName::Path(path(name))));
        let listener = |(id, name)| UnixListener { id, name };
        let real = listener((FIRST, unique()));
        Self { host: (FIRST + 1..).zip(names).map(listener).collect(), real, absent: None }
    }

    /// Has the helper open those with paths in another folder.
    pub(super) fn move_to(&mut self, folder: &str) {
        for UnixListener { name, .. } in &mut self.host {
            if let UnixName::Path(path) = name {
                *path = path.replace(FOLDER, folder);
            }
        }
    }

    /// Leaves out the one on the real host, and says why.
    pub(super) fn leave_real(&mut self, why: &str) {
        self.absent = Some(why.to_owned());
    }

    /// Those for the helper to open.
    pub(super) fn placed(&self) -> Vec<PlacedUnix> {
        let placed = |listener: &UnixListener| PlacedUnix {
            net: net::HOST.into(),
            listener: listener.clone(),
        };
        self.host.iter().map(placed).collect()
    }

    /// The one on the real host, which is only planned.
    pub(super) fn real(&self) -> &UnixListener {
        &self.real
    }

    /// Opens the one on the real host, in the net namespace of this process: what to tell the helper of it, and its
    /// descriptor.
    pub(super) fn open_real(&mut self) -> Option<(UnixListener, OwnedFd)> {
        match open(&self.real.name) {
            Ok(descriptor) => Some((self.real.clone(), descriptor)),
            Err(error) => {
                self.absent = Some(format!("cannot listen on an abstract socket: {error}"));
                None
            }
        }
    }

    /// Adds the sites that they stand for, now that it is known which files they are.
    pub(super) fn stand(&self, files: &BTreeMap<u32, SocketFile>, sites: &mut Sites) {
        for listener in &self.host {
            stand(Site::HostSockets, net::HOST, listener, files, sites);
        }
        match &self.absent {
            None => stand(Site::RealSockets, REAL, &self.real, files, sites),
            Some(why) => sites.lacks(Site::RealSockets, "abstract", Transport::Unix, why.clone()),
        }
    }
}

/// A name that nobody else in the net namespace has.
fn unique() -> UnixName {
    UnixName::Abstract(format!("{ABSTRACT_PREFIX}{}", fresh_nonce()))
}

fn open(name: &UnixName) -> io::Result<OwnedFd> {
    let address = match name {
        UnixName::Abstract(name) => sys::abstract_address(name)?,
        UnixName::Path(path) => SocketAddr::from_pathname(path)?,
    };
    Listener::bind_addr(&address).map(OwnedFd::from)
}

fn stand(
    site: Site,
    control: &str,
    listener: &UnixListener,
    files: &BTreeMap<u32, SocketFile>,
    sites: &mut Sites,
) {
    let (port, address) = match &listener.name {
        UnixName::Abstract(name) => ("abstract", Address::Abstract(name.clone())),
        UnixName::Path(path) => match files.get(&listener.id) {
            Some(file) => ("path", Address::File { path: path.clone(), file: *file }),
            None => return,
        },
    };
    let listening = Listening {
        key: 0,
        id: listener.id,
        name: format!("{site} unix/{port}"),
        transport: Transport::Unix,
        address: address.clone(),
        service: Service::Echo,
        dialled_as: Vec::new(),
        control: control.to_owned(),
        control_dials: address,
    };
    sites.add(site, port, Transport::Unix, listening);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_with_paths_stand_once_it_is_known_which_files_they_are() {
        let sockets = Sockets::sound();
        let file = SocketFile { device: 1, inode: 2 };
        let bus = sockets.host.iter().find(|one| one.name == UnixName::Path(path(SESSION_BUS)));
        let mut sites = Sites::default();
        sockets.stand(&[(bus.unwrap().id, file)].into(), &mut sites);
        let stands: Vec<_> = sites.all().map(|(_, _, _, one)| one.name.as_str()).collect();
        let expected =
            ["host-sockets unix/abstract", "host-sockets unix/path", "real-sockets unix/abstract"];
        assert_eq!(stands, expected);
    }

    #[test]
    fn abstract_names_are_unique() {
        let names = |sockets: Sockets| {
            let host = sockets.host.into_iter().map(|one| one.name);
            host.chain([sockets.real.name]).filter(|name| matches!(name, UnixName::Abstract(_)))
        };
        let mut all: Vec<_> = names(Sockets::sound()).chain(names(Sockets::sound())).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
    }
}
