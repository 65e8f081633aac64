//! What each breach changes in a sound bottle.

use super::spec::{Joined, Mount, Spec};
use crate::backend::namespace::world::elsewhere::Elsewhere;
use crate::breach::Breach;

/// The breaches that this backend can make.
pub(super) const ALL: &[Breach] = &[
    Breach::UnpinnedRoutes,
    Breach::UnpinnedFilter,
    Breach::UnpinnedResolver,
    Breach::OpenNetwork,
    Breach::HostNetwork,
    Breach::EgressOnAllInterfaces,
    Breach::SecondNetwork,
    Breach::JoinedNamespace,
    Breach::NetRaw,
    Breach::NetAdmin,
    Breach::DockerSocketMounted,
    Breach::HostGatewayAlias,
];

/// The name of the network that every engine has.
const DEFAULT_NETWORK: &str = "bridge";

/// Makes the one hole.
pub(super) fn make(spec: &mut Spec, breach: Breach) {
    let holes = &mut spec.holes;
    match breach {
        Breach::UnpinnedRoutes => holes.unpinned_routes = true,
        Breach::UnpinnedFilter => holes.unfiltered = true,
        Breach::UnpinnedResolver => holes.unpinned_resolver = true,
        Breach::OpenNetwork => (holes.open_network, holes.unpinned_routes) = (true, true),
        Breach::HostNetwork => holes.joined = Joined::Host,
        Breach::EgressOnAllInterfaces => holes.egress_on_all_interfaces = true,
        Breach::SecondNetwork => holes.second_network = Some(DEFAULT_NETWORK.into()),
        Breach::JoinedNamespace => holes.joined = Joined::Bundle,
        // Without root in the container a capability is none: it is only in the bounding set.
        Breach::NetRaw => (holes.cap_add, holes.root) = (vec!["NET_RAW".into()], true),
        Breach::NetAdmin => (holes.cap_add, holes.root) = (vec!["NET_ADMIN".into()], true),
        Breach::DockerSocketMounted => {
            let (source, target) = (Elsewhere::docker_socket(), "/var/run/docker.sock".into());
            holes.mounts.push(Mount { source, target, writable: false });
            holes.root = true;
        }
        Breach::HostGatewayAlias => {
            let alias = ("host.docker.internal".to_owned(), "host-gateway".to_owned());
            holes.extra_hosts.push(alias);
            holes.unpinned_routes = true;
        }
        _ => {}
    }
}
