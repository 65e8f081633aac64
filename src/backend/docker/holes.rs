//! What each breach changes in a sound bottle.

use std::sync::LazyLock;

use super::spec::{Holes, Joined, Mount, Spec};
use crate::backend::namespace::world::elsewhere::Elsewhere;
use crate::backend::namespace::world::gateway::LabGateway;
use crate::breach::Breach;

/// The breaches that this backend can make.
pub(super) static ALL: LazyLock<Vec<Breach>> = LazyLock::new(|| LabGateway::breaches_after(OWN));

/// Those that are not its gateway's.
const OWN: &[Breach] = &[
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
    Breach::NoBundleRoute,
    Breach::NoProcessLeft,
    Breach::SharedNetwork,
    Breach::Ipv6On,
    Breach::PublishedPort,
    Breach::StrayBundlePort,
    Breach::SshAgentMounted,
    Breach::DbusMounted,
    Breach::PingGroupRange,
    Breach::UserNamespaces,
    Breach::HostProcesses,
    Breach::Privileged,
];

/// The name of the network that every engine has.
const DEFAULT_NETWORK: &str = "bridge";

/// Makes the one hole; that of a gateway is made with it, in the lab.
pub(super) fn make(spec: &mut Spec, breach: Breach) {
    let holes = &mut spec.holes;
    match breach {
        // That another bottle is on the same network is not this one's doing.
        Breach::UnpinnedRoutes | Breach::SharedNetwork => holes.unpinned_routes = true,
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
            mount(holes, Elsewhere::docker_socket(), "/var/run/docker.sock");
        }
        Breach::SshAgentMounted => {
            mount(holes, Elsewhere::ssh_agent(), "/ssh-agent");
            spec.env.insert("SSH_AUTH_SOCK".into(), "/ssh-agent".into());
        }
        Breach::DbusMounted => {
            mount(holes, Elsewhere::session_bus(), "/run/user/0/bus");
            let address = "unix:path=/run/user/0/bus";
            spec.env.insert("DBUS_SESSION_BUS_ADDRESS".into(), address.into());
        }
        Breach::NoBundleRoute => holes.no_bundle_route = true,
        Breach::NoProcessLeft => holes.starved = true,
        Breach::Ipv6On => holes.ipv6 = Some(Elsewhere::network_v6()),
        Breach::PublishedPort => holes.also_reached.push(Elsewhere::published()),
        Breach::StrayBundlePort => holes.stray_port = true,
        Breach::PingGroupRange => holes.ping = true,
        Breach::UserNamespaces => holes.unconfined = true,
        Breach::HostProcesses => {
            holes.host_processes = true;
            holes.cap_add = ["SYS_ADMIN", "SYS_PTRACE"].map(str::to_owned).into();
            (holes.root, holes.unconfined) = (true, true);
        }
        // What an engine's `--privileged` grants, as far as anything here asks for it.
        Breach::Privileged => {
            let capabilities = ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE"];
            holes.cap_add = capabilities.map(str::to_owned).into();
            (holes.root, holes.unconfined, holes.unfiltered) = (true, true, true);
        }
        Breach::HostGatewayAlias => {
            let alias = ("host.docker.internal".to_owned(), "host-gateway".to_owned());
            holes.extra_hosts.push(alias);
            holes.unpinned_routes = true;
        }
        _ => {}
    }
}

/// Read-only, which changes nothing, and for root, who may open it.
fn mount(holes: &mut Holes, source: String, target: &str) {
    holes.mounts.push(Mount { source, target: target.into(), writable: false });
    holes.root = true;
}
