//! The listener on the vsock loopback of the machine that the launcher runs on. No net namespace holds vsock back.

use std::os::fd::OwnedFd;

use claude_bottle_protocol::helper::REAL;
use claude_bottle_protocol::witness::{Service, Transport, VsockListener};

use crate::lab::{Address, Listening, Sites};
use crate::probe::definition::Site;
use crate::{host, sys};

/// Its number: above those of Unix sockets.
const NUMBER: u32 = 20_000;
/// The port that stands for whichever the kernel chooses.
const PLANNED: u32 = 60_000;

/// A listener, or why there is none.
#[derive(Debug, Clone)]
pub(super) struct Vsock {
    listener: VsockListener,
    absent: Option<String>,
}

impl Vsock {
    /// As if the machine had a loopback.
    pub(super) fn planned() -> Self {
        Self { listener: VsockListener { id: NUMBER, port: PLANNED }, absent: None }
    }

    /// The listener.
    pub(super) fn listener(&self) -> VsockListener {
        self.listener
    }

    /// Leaves it out, and says why.
    pub(super) fn leave(&mut self, why: &str) {
        self.absent = Some(why.to_owned());
    }

    /// Opens it, where the machine has such a loopback.
    pub(super) fn open(&mut self) -> Option<(VsockListener, OwnedFd)> {
        // Where vsock is not loaded, making a socket would load it.
        if !host::has_vsock_loopback() {
            self.leave("this machine has no vsock loopback");
            return None;
        }
        match sys::listen_on_vsock_loopback() {
            Ok((port, descriptor)) => {
                self.listener.port = port;
                Some((self.listener, descriptor))
            }
            Err(error) => {
                self.leave(&format!("cannot listen on the vsock loopback: {error}"));
                None
            }
        }
    }

    /// Adds the site that it stands for.
    pub(super) fn stand(&self, sites: &mut Sites) {
        let (site, port, transport) = (Site::RealVsock, "random", Transport::Vsock);
        if let Some(why) = &self.absent {
            return sites.lacks(site, port, transport, why.clone());
        }
        let address = Address::Vsock(self.listener.port);
        let listening = Listening {
            key: 0,
            id: self.listener.id,
            name: format!("{site} {transport}/{port}"),
            transport,
            address: address.clone(),
            service: Service::Echo,
            dialled_as: Vec::new(),
            control: REAL.to_owned(),
            control_dials: address,
        };
        sites.add(site, port, transport, listening);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::definition::To;

    fn sites(vsock: &Vsock) -> Result<usize, String> {
        let mut sites = Sites::default();
        vsock.stand(&mut sites);
        let to = To { site: Site::RealVsock, port: "random".into(), spelled: None };
        sites.listening(&to, Transport::Vsock).map(<[_]>::len).map_err(|unserved| unserved.why)
    }

    #[test]
    fn there_is_a_listener_or_the_reason_why_not() {
        let mut vsock = Vsock::planned();
        assert_eq!(sites(&vsock), Ok(1));
        let opened = vsock.open();
        assert_eq!(opened.is_some(), host::has_vsock_loopback(), "{vsock:?}");
        assert_eq!(sites(&vsock).is_ok(), opened.is_some());
        vsock.leave("it was left out");
        assert_eq!(sites(&vsock), Err("it was left out".to_owned()));
    }
}
