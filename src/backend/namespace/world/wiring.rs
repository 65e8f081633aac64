//! The plan as a report draws it.

use std::collections::BTreeSet;

use claude_bottle_protocol::helper::REAL;

use super::{Post, World, net};
use crate::lab::{Place, Role, Wire, Wiring};
use crate::probe::definition::Site;

impl World {
    /// Net namespaces and wires as they are laid, and what stands where. A bottle without a net namespace of its own is in
    /// somebody else's place.
    pub(in super::super) fn wiring(&self) -> Wiring {
        let mut places: Vec<_> = self
            .lab
            .nets
            .iter()
            .filter_map(|net| Some(self.place(&net.name, role(&net.name)?)))
            .collect();
        places.push(self.place(REAL, Role::Machine));
        let wires = self.lab.links.iter().map(|link| Wire {
            from: link.a.net.clone(),
            from_interface: link.a.interface.clone(),
            to: link.b.net.clone(),
            to_interface: link.b.interface.clone(),
        });
        Wiring { places, wires: wires.collect() }
    }

    fn place(&self, name: &str, role: Role) -> Place {
        let net = self.lab.nets.iter().find(|net| net.name == name);
        let addresses =
            net.iter().flat_map(|net| &net.addresses).filter(|one| one.interface != "lo");
        let mut addresses: Vec<_> = addresses
            .map(|one| format!("{} {}/{}", one.interface, one.address, one.prefix))
            .collect();
        if role == Role::Bottle && self.bottle.net != name {
            addresses = vec![format!("in the network of {}", self.bottle.net)];
        }
        let here = |post: &&Post| post.net == name;
        let stands = self.posts.0.iter().filter(here).flat_map(|post| &post.stands);
        let mut sites: BTreeSet<_> = stands.map(|stand| stand.site).collect();
        match role {
            Role::Host => sites.extend([Site::HostSockets]),
            Role::Machine => {
                sites.extend([Site::RealLoopback, Site::RealSockets, Site::RealVsock]);
            }
            _ => {}
        }
        let sites = sites.into_iter().collect();
        Place { name: name.to_owned(), role, addresses, sites }
    }
}

fn role(net: &str) -> Option<Role> {
    Some(match net {
        net::BOTTLE => Role::Bottle,
        net::BUNDLE => Role::Bundle,
        net::HOST => Role::Host,
        net::NEIGHBOUR | net::OTHER_BOTTLE => Role::Neighbour,
        net::WORLD => Role::World,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breach::Breach;

    #[test]
    fn a_breach_shows_in_the_wiring() {
        let ends = |breach| {
            let wiring = World::plan("bottle", breach).wiring();
            wiring.wires.into_iter().map(|wire| (wire.from, wire.to)).collect::<Vec<_>>()
        };
        let to_host = ("bottle".to_owned(), "host".to_owned());
        assert!(!ends(None).contains(&to_host));
        assert!(ends(Some(Breach::LinkToHost)).contains(&to_host));
        let shared = World::plan("bottle", Some(Breach::SharedNetworkNamespace)).wiring();
        assert_eq!(shared.places[0].addresses, ["in the network of host"]);
    }

    #[test]
    fn every_site_stands_somewhere() {
        let wiring = World::plan("bottle", None).wiring();
        for site in Site::ALL {
            assert!(wiring.places.iter().any(|place| place.sites.contains(site)), "{site}");
        }
    }
}
