//! The lab's work at a host, done by this very process with what every Unix has: for hosts on which no toolbox runs, since that is a
//! Linux program.
//!
//! | file | what it does |
//! |---|---|
//! | `witness` | opens listeners, and records every nonce that arrives at them |
//! | `prober` | dials them: the controls |

mod prober;
mod witness;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub(crate) use self::prober::probe;
pub(crate) use self::witness::open;
use super::Sites;
use crate::host::{interface_addresses, local_addresses};
use crate::probe::definition::Site;

/// The addresses that this machine's interfaces have, each once: without loopback, those that mean something on one link alone, and
/// those that packets would leave this machine to.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let mut all = Vec::new();
    for ip in local_addresses() {
        let is_on_one_link = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if !ip.is_loopback() && !is_on_one_link && !all.contains(&ip) {
            all.push(ip);
        }
    }
    all
}

/// The addresses of `sites` that this machine had and has no more. A bundle's never was one of them.
pub(crate) fn gone(sites: &Sites) -> BTreeSet<IpAddr> {
    let has: BTreeSet<_> = interface_addresses().collect();
    let own = sites.all().filter(|(site, ..)| *site != Site::Bundle);
    let had = own.filter_map(|(.., one)| Some(one.address.inet()?.ip()));
    // All of 127.0.0.0/8 is there with one address of it.
    had.filter(|ip| !ip.is_loopback() && !has.contains(ip)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use claude_bottle_protocol::witness::{Service, Transport};

    use super::*;
    use crate::lab::Listening;

    #[test]
    fn this_machines_addresses_are_no_loopback_and_no_link_local_ones() {
        let all = own_addresses();
        assert!(!all.contains(&Ipv6Addr::UNSPECIFIED.into()));
        assert!(all.iter().all(|ip| !ip.is_loopback() && !ip.to_string().starts_with("fe80")));
    }

    #[test]
    fn gone_is_what_no_interface_has_and_is_not_the_bundles() {
        let mut sites = Sites::default();
        for (site, address) in [
            (Site::HostGateway, "192.0.2.1:9"),
            (Site::HostLoopback, "127.0.0.3:9"),
            (Site::Bundle, "192.0.2.2:9"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            let listening = Listening {
                key: 0,
                id: 1,
                name: site.to_string(),
                transport: Transport::Tcp,
                address: address.into(),
                service: Service::Echo,
                dialled_as: vec![address.ip()],
                control: "host".into(),
                control_dials: address.into(),
            };
            sites.add(site, "discard", Transport::Tcp, listening);
        }
        assert_eq!(gone(&sites), BTreeSet::from(["192.0.2.1".parse().unwrap()]));
    }
}
