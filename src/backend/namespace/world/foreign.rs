//! The same world around a sandbox that somebody else's command makes on the stand-in host: `probe --in … --lab`.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use claude_bottle_protocol::helper::{Command, Lab, Net, Placed};
use claude_bottle_protocol::witness::Transport;
use nix::unistd::{getegid, geteuid};

use super::posts::{Post, Stand};
use super::wires::address;
use super::{World, map, net};
use crate::backend::namespace::helper::Built;
use crate::backend::namespace::real::RealLoopback;
use crate::lab::{Sites, Wiring};
use crate::probe::definition::{Site, To};

/// What the stand-in host's sockets are in: an empty folder instead of the machine's own, so that the command finds no
/// socket of the real host's in the usual place, but the lab's.
const FOLDER: &str = "/run";
/// Why the sites of the bundle are not served.
const NO_BUNDLE: &str = "there is no bundle beside a sandbox of another make";

/// The world around it.
#[derive(Debug, Clone)]
pub(in crate::backend) struct Foreign(World);

impl Foreign {
    /// The world without a bottle; witnesses stand where something is allowed.
    pub(in crate::backend) fn new(allowed: &[(SocketAddr, Transport)]) -> Self {
        let mut world = World::plan("", None);
        world.vacate();
        let host = world.net(net::HOST);
        host.addresses.retain(|one| one.interface != "bundle0");
        host.routes.retain(|route| route.interface != "bundle0");
        // It keeps the address that it would have on a bridge for bottles.
        host.addresses.push(address("lo", map::HOST_GATEWAY, 32));
        world.sockets.move_to(FOLDER);
        world.lab.sockets = world.sockets.placed();
        world.lab.folder = Some(FOLDER.into());
        for (address, transport) in allowed {
            world.allow(*address, *transport);
        }
        Self(world)
    }

    /// The net that the command runs in.
    pub(in crate::backend) fn host() -> &'static str {
        net::HOST
    }

    /// From where the outside dials into the sandbox.
    pub(in crate::backend) fn outside() -> [&'static str; 3] {
        [net::HOST, net::NEIGHBOUR, net::WORLD]
    }

    /// The command on the stand-in host, as who runs this program: root there, or a user without privileges.
    pub(in crate::backend) fn command(argv: Vec<String>) -> Command {
        let (uid, gid) = (geteuid(), getegid());
        let user = (!uid.is_root()).then(|| (uid.as_raw(), gid.as_raw()));
        let resolv_conf = format!("nameserver {}\n", map::RESOLVERS[0]);
        Command { net: net::HOST.into(), argv, user, resolv_conf, folder: FOLDER.into() }
    }

    /// The net of the sandbox, once a process of it is known.
    pub(in crate::backend) fn sandbox(name: &str, process: u32) -> Lab {
        let net = Net { name: name.into(), of_process: Some(process), ..Net::default() };
        Lab { nets: vec![net], ..Lab::default() }
    }

    /// Adds the listeners on the real loopback; their descriptors go to the witness.
    pub(in crate::backend) fn adopt(&mut self, real: RealLoopback) -> Vec<OwnedFd> {
        self.0.adopt(real)
    }

    /// What is to be made.
    pub(in crate::backend) fn lab(&self) -> Lab {
        let mut lab = self.0.lab.clone();
        let here = |post: &&Post| lab.nets.iter().any(|net| net.name == post.net);
        let placed = |Post { net, listener, same_port, .. }: &Post| Placed {
            net: (*net).into(),
            listener: listener.clone(),
            same_port: *same_port,
        };
        lab.listeners = self.0.posts.0.iter().filter(here).map(placed).collect();
        lab
    }

    /// The sites, now that all listeners are up.
    pub(in crate::backend) fn sites(&self, built: &Built) -> Sites {
        let mut world = self.0.clone();
        world.posts.0.retain(|post| post.net != net::BUNDLE && post.net != net::BOTTLE);
        let mut sites = world.sites(built);
        let all = [Transport::Tcp, Transport::Udp, Transport::Icmp, Transport::Packet];
        for port in Site::Bundle.port_names() {
            for transport in all {
                sites.lacks(Site::Bundle, port, transport, NO_BUNDLE.into());
            }
        }
        sites
    }

    /// How it is wired.
    pub(in crate::backend) fn wiring(&self) -> Wiring {
        self.0.wiring()
    }
}

/// What an attempt names this address; none where nobody in the lab has it.
pub(in crate::backend) fn to(address: SocketAddr, transport: Transport) -> Option<To> {
    let mut world = Foreign::new(&[]).0;
    world.allow(address, transport)
}

impl World {
    /// Has a witness stand at `address`, and tells what it stands for; none where nobody has the address.
    fn allow(&mut self, address: SocketAddr, transport: Transport) -> Option<To> {
        let ip = address.ip();
        let spelled = Some(ip.to_string());
        let is_meant = |stand: &&Stand| stand.dialled_as.contains(&ip);
        let is_there = |net: &str| self.lab.nets.iter().any(|one| one.name == net);
        let listens = |post: &&Post| {
            let Post { net, listener, .. } = post;
            let is_its =
                listener.transport == transport && listener.address.port() == address.port();
            is_its && is_there(net)
        };
        // Somebody's server may stand there already.
        let mut standing = self.posts.0.iter().filter(listens);
        if let Some(stand) = standing.find_map(|post| post.stands.iter().find(is_meant)) {
            return Some(To { site: stand.site, port: stand.port.clone(), spelled });
        }
        let (net, from, site) = self.whose(ip)?;
        let port = address.port().to_string();
        let stand = Stand::new(site, port.clone()).dialled_as(&[ip]).control(from, ip);
        self.posts.add(net, transport, address, vec![stand]);
        Some(To { site, port, spelled })
    }

    /// Who has `ip`, from where a control reaches it, and as which site.
    fn whose(&self, ip: IpAddr) -> Option<(&'static str, &'static str, Site)> {
        if ip.is_loopback() {
            return Some((net::HOST, net::HOST, Site::HostLoopback));
        }
        let known = [(net::HOST, net::WORLD), (net::NEIGHBOUR, net::HOST), (net::WORLD, net::HOST)];
        let has = |name: &str| {
            let net = self.lab.nets.iter().find(|net| net.name == name);
            net.is_some_and(|net| net.addresses.iter().any(|one| one.address == ip))
        };
        let (net, from) = known.into_iter().find(|(name, _)| has(name))?;
        let site = match (net, ip) {
            (net::HOST, _) => Site::HostGateway,
            (net::NEIGHBOUR, _) => Site::Neighbour,
            (_, IpAddr::V4(_)) => Site::Internet,
            (_, IpAddr::V6(_)) => Site::InternetV6,
        };
        Some((net, from, site))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_in_the_lab_can_be_allowed() {
        let named = |address: &str| {
            let to = to(address.parse().unwrap(), Transport::Tcp);
            to.map(|to| to.to_string())
        };
        assert_eq!(named("1.1.1.1:443").as_deref(), Some("internet:443 as 1.1.1.1"));
        assert_eq!(named("1.1.1.1:444").as_deref(), Some("internet:444 as 1.1.1.1"));
        assert_eq!(
            named("192.168.200.10:3128").as_deref(),
            Some("host-gateway:3128 as 192.168.200.10")
        );
        assert_eq!(named("10.200.0.1:8888"), None, "the bundle's, which is not there");
        assert_eq!(named("192.0.2.77:443"), None);
    }

    #[test]
    fn nobody_listens_in_a_net_that_is_not_there() {
        let lab = Foreign::new(&[("10.200.2.2:4000".parse().unwrap(), Transport::Udp)]).lab();
        let there = |net: &str| lab.nets.iter().any(|one| one.name == net);
        assert!(lab.listeners.iter().all(|placed| there(&placed.net)));
        assert!(lab.listeners.iter().any(|placed| placed.listener.address.port() == 4000));
        assert!(
            lab.nets.iter().flat_map(|net| &net.addresses).all(|one| one.interface != "bundle0")
        );
    }
}
