//! What a sandbox is said to reach: `--allow`.
//!
//! It is proven like everything else, by a witness of this run that stands there. So it can only be an address that this
//! machine has, or one of the lab's: whatever a person allows, nothing of somebody else's is dialled.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use claude_bottle_protocol::witness::Transport;
use thiserror::Error;

use crate::backend::namespace::world::foreign;
use crate::probe::definition::{AttemptDefinition, Expect, Method, Probe, Severity, Site, To};

/// The name of the probe that is made of them.
const NAME: &str = "allowed-reach";

/// An address that a sandbox must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
}

/// Why something cannot be allowed.
#[derive(Debug, Error)]
pub enum AllowError {
    /// It is no address and port.
    #[error(
        "{0:?} is no address and port: write 192.0.2.1:3128, [2001:db8::1]:3128 or, for UDP, 192.0.2.1:53/udp; names are \
         not looked up"
    )]
    Unreadable(String),
    /// This machine does not have the address.
    #[error(
        "no witness of this run can stand at {0}, so nothing would be proven: this machine has no such address. Name one \
         that it has, or one of the lab's together with --lab"
    )]
    NotHere(SocketAddr),
    /// Nor does the lab.
    #[error(
        "no witness of this run can stand at {0}, so nothing would be proven: nobody in the lab has this address"
    )]
    NotInTheLab(SocketAddr),
    /// Somebody else listens there.
    #[error(
        "no witness of this run can stand at {0}: somebody else listens there. End it while this runs, or allow another \
         port"
    )]
    Taken(SocketAddr),
    /// This user may not listen there, or nobody can.
    #[error("no witness of this run can stand at {address}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// `ADDRESS:PORT`, with `/udp` or `/tcp` behind it; TCP is meant without.
impl std::str::FromStr for Allowed {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let (address, transport) = match text.rsplit_once('/') {
            None => (text, Transport::Tcp),
            Some((address, "tcp")) => (address, Transport::Tcp),
            Some((address, "udp")) => (address, Transport::Udp),
            Some(_) => return Err(AllowError::Unreadable(text.to_owned())),
        };
        let one = |address: &SocketAddr| {
            let ip = address.ip();
            address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
        };
        let address = address.parse().ok().filter(one);
        let address = address.ok_or_else(|| AllowError::Unreadable(text.to_owned()))?;
        Ok(Self { address, transport })
    }
}

impl Allowed {
    /// Its site and port, as an attempt names them.
    pub(super) fn to(self, lab: bool) -> Result<To, AllowError> {
        let Self { address, transport } = self;
        if lab {
            return foreign::to(address, transport).ok_or(AllowError::NotInTheLab(address));
        }
        let site = if address.ip().is_loopback() { Site::RealLoopback } else { Site::HostGateway };
        Ok(To { site, port: address.port().to_string(), spelled: Some(address.ip().to_string()) })
    }

    /// Whether a witness can stand there now.
    fn is_free(self) -> Result<(), AllowError> {
        let Self { address, transport } = self;
        let bound = match transport {
            Transport::Udp => UdpSocket::bind(address).map(drop),
            _ => TcpListener::bind(address).map(drop),
        };
        bound.map_err(|source| match source.kind() {
            io::ErrorKind::AddrNotAvailable => AllowError::NotHere(address),
            io::ErrorKind::AddrInUse => AllowError::Taken(address),
            _ => AllowError::Refused { address, source },
        })
    }
}

/// The probe that all of `allowed` make together; none where nothing is allowed. An error where a witness could not stand:
/// better said before anything is launched.
pub(super) fn probe(allowed: &[Allowed], lab: bool) -> Result<Option<Probe>, AllowError> {
    let mut attempts = Vec::new();
    for one in allowed {
        if !lab {
            one.is_free()?;
        }
        let method = if one.transport == Transport::Udp { Method::Udp } else { Method::Tcp };
        attempts.push(AttemptDefinition {
            method,
            to: Some(one.to(lab)?),
            request: None,
            expect: Expect::Reached,
            how: Vec::new(),
            only_on: Vec::new(),
        });
    }
    if attempts.is_empty() {
        return Ok(None);
    }
    Ok(Some(Probe {
        name: NAME.to_owned(),
        file: None,
        title: "The sandbox reaches what it is said to reach".to_owned(),
        why: "A sandbox without any network would pass for one that is well fenced.".to_owned(),
        severity: Severity::High,
        tags: vec!["smoke".to_owned()],
        references: Vec::new(),
        proven_by: Vec::new(),
        needs: Vec::new(),
        on: BTreeMap::new(),
        attempts,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Allowed {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_and_a_port_are_allowed_and_nothing_else() {
        let udp = allowed("[2001:db8::1]:53/udp");
        assert_eq!((udp.address.port(), udp.transport), (53, Transport::Udp));
        assert_eq!(allowed("127.0.0.1:1/tcp"), allowed("127.0.0.1:1"));
        for wrong in [
            "example.org:443",
            "127.0.0.1",
            "127.0.0.1:0",
            "0.0.0.0:1",
            "1.1.1.1:1/icmp",
            "[ff02::1]:1",
            "",
        ] {
            let error = wrong.parse::<Allowed>().unwrap_err().to_string();
            assert!(error.contains("is no address and port"), "{wrong}: {error}");
        }
    }

    #[test]
    fn no_witness_stands_on_what_is_not_here_or_not_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = allowed(&taken.local_addr().unwrap().to_string());
        assert!(matches!(probe(&[taken], false), Err(AllowError::Taken(_))));
        let elsewhere = allowed("192.0.2.77:443");
        assert!(matches!(probe(&[elsewhere], false), Err(AllowError::NotHere(_))));
        assert!(matches!(probe(&[elsewhere], true), Err(AllowError::NotInTheLab(_))));
        assert!(probe(&[], false).unwrap().is_none());
        let one = probe(&[allowed("1.1.1.1:443")], true).unwrap().unwrap();
        assert_eq!(one.attempts[0].to_string(), "tcp to internet:443 as 1.1.1.1");
    }
}
