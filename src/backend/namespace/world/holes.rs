//! What each breach changes in a sound lab.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use claude_bottle_protocol::helper::{Forwarder, LeftOpen, Mount, REAL};
use claude_bottle_protocol::witness::Transport;

use super::gateway::LabGateway;
use super::wires::{address, link, route};
use super::{World, map, net, sockets};
use crate::breach::Breach;
use crate::probe::definition::Site;

/// The port of DNS (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// The port of HTTPS (RFC 9110 §4.2.2).
const HTTPS_PORT: u16 = 443;

/// The breaches that this backend can make.
pub(in super::super) static ALL: LazyLock<Vec<Breach>> =
    LazyLock::new(|| LabGateway::breaches_after(OWN));

/// Those that are not its gateway's.
const OWN: &[Breach] = &[
    Breach::NoBundleRoute,
    Breach::EgressOnAllInterfaces,
    Breach::SharedNetworkNamespace,
    Breach::NoNetworkNamespace,
    Breach::NoexecRoot,
    Breach::LinkToHost,
    Breach::ForwardingResolver,
    Breach::DockerSocketMounted,
    Breach::SshAgentMounted,
    Breach::DbusMounted,
    Breach::DescriptorLeftOpen,
    Breach::NetAdmin,
    Breach::UserNamespaces,
    Breach::HostProcesses,
    Breach::PingGroupRange,
    Breach::NetRaw,
    Breach::NetRawUnconfined,
    Breach::NetRawIoUring,
    Breach::DefaultRouteViaBundle,
    Breach::OneWay,
    Breach::Ipv6On,
    Breach::NeighbourOnSameSegment,
    Breach::StrayBundlePort,
    Breach::PublishedPort,
    Breach::FlowBeforeFence,
    Breach::SeccompOff,
];

/// Makes the one hole.
pub(super) fn make(world: &mut World, breach: Breach) {
    match breach {
        Breach::NoBundleRoute => world.net(net::BOTTLE).routes.clear(),
        Breach::EgressOnAllInterfaces => {
            for post in world.posts.of(Site::Bundle, "egress") {
                post.listener.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            }
        }
        Breach::SharedNetworkNamespace => {
            world.bottle.net = net::HOST.into();
            // The host reaches the bundle as its neighbour on the bridge.
            let to_bundle = route((map::BUNDLE, 32), Some(map::BUNDLE_UPLINK), "bundle0");
            world.net(net::HOST).routes.push(to_bundle);
        }
        Breach::NoNetworkNamespace => world.bottle.net = REAL.into(),
        Breach::NoexecRoot => world.bottle.executable = false,
        Breach::LinkToHost => link_to_host(world),
        Breach::ForwardingResolver => forward_queries(world),
        Breach::DockerSocketMounted => {
            // As careful as many believe: a connection writes nothing to the file system.
            show_socket(world, sockets::DOCKER, "/var/run/docker.sock");
        }
        Breach::SshAgentMounted => {
            show_socket(world, sockets::SSH_AGENT, "/ssh-agent");
            world.bottle.env.insert("SSH_AUTH_SOCK".into(), "/ssh-agent".into());
        }
        Breach::DbusMounted => {
            show_socket(world, sockets::SESSION_BUS, "/run/user/1000/bus");
            let address = "unix:path=/run/user/1000/bus";
            world.bottle.env.insert("DBUS_SESSION_BUS_ADDRESS".into(), address.into());
        }
        Breach::DescriptorLeftOpen => {
            let left = |transport| LeftOpen { net: net::HOST.into(), transport, connected: None };
            world.bottle.left_open = [Transport::Tcp, Transport::Udp].map(left).into();
        }
        Breach::FlowBeforeFence => {
            let (net, transport) = (net::HOST.into(), Transport::Tcp);
            let connected = Some((map::INTERNET[0], HTTPS_PORT).into());
            world.bottle.left_open.push(LeftOpen { net, transport, connected });
        }
        Breach::SeccompOff => world.bottle.seccomp = false,
        Breach::NetAdmin => world.bottle.capabilities = vec!["NET_ADMIN".into()],
        Breach::UserNamespaces => world.bottle.user_namespaces = true,
        Breach::HostProcesses => {
            world.bottle.capabilities = vec!["SYS_ADMIN".into(), "SYS_PTRACE".into()];
            world.bottle.seccomp = false;
            world.bottle.own_processes = false;
        }
        Breach::PingGroupRange => {
            // The only group that the lab's user namespace knows, and the bottle's commands are in it.
            let range = ("ipv4/ping_group_range".to_owned(), "0 0".to_owned());
            world.net(net::BOTTLE).sysctls.extend([range]);
        }
        Breach::NetRaw => keep_net_raw(world),
        Breach::NetRawUnconfined => {
            keep_net_raw(world);
            world.bottle.seccomp = false;
        }
        Breach::NetRawIoUring => {
            keep_net_raw(world);
            world.bottle.io_uring = true;
        }
        Breach::DefaultRouteViaBundle => forward_by_bundle(world, (map::BUNDLE_UPLINK, "bundle0")),
        // The neighbour gets the replies, and throws away what is not for it: whoever sends one learns nothing.
        Breach::OneWay => forward_by_bundle(world, (map::NEIGHBOUR, "other0")),
        Breach::Ipv6On => link_to_host_v6(world),
        Breach::NeighbourOnSameSegment => link_to_neighbour(world),
        Breach::StrayBundlePort => world.posts.stray(),
        Breach::PublishedPort => route_to_published(world),
        // Of another backend, as `ALL` says; or the gateway's own, which knows them.
        _ => {}
    }
}

/// A resolver inside the bottle, at the address that Docker's has, which asks from the host's net namespace, as Docker's
/// does: the bottle's routes do not matter to it (CVE-2024-29018).
fn forward_queries(world: &mut World) {
    let address = Ipv4Addr::new(127, 0, 0, 11);
    world.bottle.nameservers = vec![address.into()];
    world.forwarders.push(Forwarder {
        listens_in: net::BOTTLE.into(),
        listens_on: (address, DNS_PORT).into(),
        asks_from: net::HOST.into(),
        asks: (map::RESOLVERS[0], DNS_PORT).into(),
    });
}

/// One of the host's sockets, mounted read-only.
fn show_socket(world: &mut World, name: &str, target: &str) {
    let (source, target) = (sockets::path(name), target.into());
    world.bottle.mounts.push(Mount { source, target, writable: false });
}

fn keep_net_raw(world: &mut World) {
    world.bottle.capabilities.push("NET_RAW".to_owned());
}

/// A second wire, from the bottle straight to the host, and a default route over it: what `docker network connect bridge`
/// would do.
fn link_to_host(world: &mut World) {
    world.lab.links.push(link((net::BOTTLE, "eth1"), (net::HOST, "bottle0")));
    let host = world.net(net::HOST);
    host.addresses.push(address("bottle0", map::HOST_TO_BOTTLE, 24));
    let bottle = world.net(net::BOTTLE);
    bottle.addresses.push(address("eth1", map::BOTTLE_TO_HOST, 24));
    bottle.routes.push(route(map::ANYWHERE, Some(map::HOST_TO_BOTTLE), "eth1"));
    // `--add-host host.docker.internal:host-gateway` comes with it as often as not.
    world.bottle.hosts.push((map::HOST_TO_BOTTLE, "host.docker.internal".into()));
}

/// The only wire leads everywhere; the host hands replies to `back`.
fn forward_by_bundle(world: &mut World, back: (IpAddr, &str)) {
    world.net(net::BUNDLE).forward = true;
    world.net(net::BOTTLE).routes.push(route(map::ANYWHERE, Some(map::BUNDLE), "eth0"));
    let to_bottle = |via, interface| route((map::BOTTLE, 32), Some(via), interface);
    world.net(net::HOST).routes.push(to_bottle(back.0, back.1));
    world.net(net::WORLD).routes.push(to_bottle(map::HOST_LAN, "lan0"));
}

/// A second wire whose IPv4 somebody thought of, and whose IPv6 nobody did.
fn link_to_host_v6(world: &mut World) {
    world.lab.links.push(link((net::BOTTLE, "eth1"), (net::HOST, "bottle0")));
    let host = world.net(net::HOST);
    host.addresses.push(address("bottle0", map::wire_v6(3, 1), 64));
    host.addresses.push(address("bottle0", map::HOST_ON_LINK, 64));
    let bottle = world.net(net::BOTTLE);
    bottle.ipv6 = true;
    bottle.addresses.push(address("eth1", map::wire_v6(3, 2), 64));
    bottle.routes.push(route(map::ANYWHERE_V6, Some(map::wire_v6(3, 1)), "eth1"));
}

/// Somebody wanted the bottle to use one thing that the host publishes: a route to the address that is published on alone, and
/// a bundle that forwards there.
fn route_to_published(world: &mut World) {
    world.net(net::BUNDLE).forward = true;
    world.net(net::BOTTLE).routes.push(route((map::PUBLISHED, 32), Some(map::BUNDLE), "eth0"));
    let back = route((map::BOTTLE, 32), Some(map::BUNDLE_UPLINK), "bundle0");
    world.net(net::HOST).routes.push(back);
}

/// What a bridge without isolation between its ports comes to.
fn link_to_neighbour(world: &mut World) {
    world.lab.links.push(link((net::BOTTLE, "eth1"), (net::NEIGHBOUR, "eth1")));
    world.net(net::BOTTLE).addresses.push(address("eth1", map::BOTTLE_ON_SEGMENT, 24));
    world.net(net::NEIGHBOUR).routes.push(route((map::BOTTLE_ON_SEGMENT, 32), None, "eth1"));
}
