//! The fuse: nothing but loopback is dialled unless the launcher handed over this very net namespace, or these very
//! addresses. A failed `unshare` can then neither send a probe into a real network nor show a false green.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;

use claude_bottle_protocol::prober::Fuse;

/// Decides what may be dialled.
#[derive(Debug)]
pub(crate) struct Guard {
    fuse: Fuse,
    netns: Option<u64>,
}

/// The inode number of this process' net namespace; none where `/proc` does not tell.
pub(crate) fn own_namespace() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/net").ok().map(|namespace| namespace.ino())
}

impl Guard {
    /// A guard for a prober in the net namespace `netns`.
    pub(crate) fn new(fuse: Fuse, netns: Option<u64>) -> Self {
        Self { fuse, netns }
    }

    /// Whether `address` may be dialled for its service, loopback or not: what listens on a loopback that this run
    /// did not make would carry the nonce on.
    pub(crate) fn permits_service(&self, address: SocketAddr) -> bool {
        match &self.fuse {
            Fuse::Namespaces(inodes) => self.netns.is_some_and(|own| inodes.contains(&own)),
            Fuse::Addresses(addresses) => addresses.contains(&address),
        }
    }

    /// Whether `address` may be dialled.
    pub(crate) fn permits(&self, address: SocketAddr) -> bool {
        let here = match &self.fuse {
            Fuse::Namespaces(_) => stays_here(address.ip()),
            // Loopback in another spelling, at a port that the run has on its own.
            Fuse::Addresses(addresses) => {
                let ours = |one: &SocketAddr| one.port() == address.port() && stays_here(one.ip());
                stays_here(address.ip()) && addresses.iter().any(ours)
            }
        };
        here || self.permits_service(address)
    }

    /// Whether the configuration of the net namespace may be changed: only where it may be that of this run.
    pub(crate) fn permits_changes(&self) -> bool {
        matches!(self.fuse, Fuse::Namespaces(_))
    }
}

impl Guard {
    /// Whether frames may be sent, which go to whoever is on the wire: in a net namespace of this run alone.
    pub(crate) fn permits_frames(&self) -> bool {
        match &self.fuse {
            Fuse::Namespaces(inodes) => self.netns.is_some_and(|own| inodes.contains(&own)),
            Fuse::Addresses(_) => false,
        }
    }
}

/// Whether dialling `address` cannot leave the net namespace: loopback in either family, and the unspecified
/// addresses, which a client connects to its own loopback with (`ip(7)`, RFC 4291 §2.5.2).
fn stays_here(address: IpAddr) -> bool {
    let address = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    address.is_loopback() || address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(fuse: &Fuse, netns: Option<u64>, address: &str) -> bool {
        Guard::new(fuse.clone(), netns).permits(address.parse().unwrap())
    }

    #[test]
    fn only_the_namespace_handed_over_may_dial_out() {
        let fuse = Fuse::Namespaces(vec![7, 8]);
        let out = "203.0.113.1:80";
        assert!(permits(&fuse, Some(8), out));
        assert!(!permits(&fuse, Some(9), out), "another namespace");
        assert!(!permits(&fuse, None, out), "unknown namespace");
        assert!(!permits(&Fuse::Namespaces(vec![]), Some(8), out), "none handed over");
    }

    #[test]
    fn loopback_in_any_spelling_may_always_be_dialled() {
        let none = Fuse::Namespaces(vec![]);
        for address in
            ["127.0.0.1:9", "127.9.9.9:9", "[::1]:9", "0.0.0.0:9", "[::]:9", "[::ffff:127.0.0.1]:9"]
        {
            assert!(permits(&none, None, address), "{address}");
        }
        for address in ["10.0.0.1:9", "[::ffff:10.0.0.1]:9", "[fe80::1]:9", "[::127.0.0.1]:9"] {
            assert!(!permits(&none, None, address), "{address}");
        }
    }

    #[test]
    fn a_loopback_of_somebody_else_serves_nobody() {
        let resolver = "127.0.0.53:53".parse().unwrap();
        let guard = |netns| Guard::new(Fuse::Namespaces(vec![7]), netns);
        assert!(guard(Some(7)).permits_service(resolver));
        assert!(!guard(Some(8)).permits_service(resolver));
        assert!(!guard(None).permits_service(resolver));
    }

    #[test]
    fn frames_are_sent_in_a_namespace_handed_over_and_nowhere_else() {
        let frames = |fuse: Fuse, netns| Guard::new(fuse, netns).permits_frames();
        assert!(frames(Fuse::Namespaces(vec![7]), Some(7)));
        assert!(!frames(Fuse::Namespaces(vec![7]), Some(8)));
        assert!(!frames(Fuse::Namespaces(vec![7]), None));
        assert!(!frames(Fuse::Addresses(vec!["10.0.0.1:80".parse().unwrap()]), Some(7)));
    }

    #[test]
    fn an_address_fuse_takes_the_port_into_account() {
        let fuse = Fuse::Addresses(vec!["10.0.0.1:80".parse().unwrap()]);
        assert!(permits(&fuse, None, "10.0.0.1:80"));
        assert!(!permits(&fuse, None, "10.0.0.1:81"));
        assert!(!permits(&fuse, None, "10.0.0.2:80"));
        assert!(!permits(&fuse, None, "127.0.0.1:80"), "no loopback address is on the list");
        let fuse = Fuse::Addresses(vec!["127.0.0.1:80".parse().unwrap()]);
        assert!(permits(&fuse, None, "[::ffff:127.0.0.1]:80"), "another spelling");
        assert!(permits(&fuse, None, "0.0.0.0:80"));
        assert!(!permits(&fuse, None, "127.0.0.1:81"), "somebody else's port");
        assert!(!Guard::new(fuse, None).permits_changes());
    }
}
