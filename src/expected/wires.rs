//! What goes to whoever is on a wire: frames, groups, broadcasts, and link-local addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use claude_bottle_protocol::helper::End;
use claude_bottle_protocol::witness::{Listener, Transport};
use ipnet::IpNet;

use super::network::{Arrived, Network, Stopped, Way};

impl<'a> Network<'a> {
    /// The interfaces of a net, each with the other end of its wire.
    pub(super) fn wires(self, net: &str) -> impl Iterator<Item = (&'a End, &'a End)> {
        let ends =
            self.lab().links.iter().flat_map(|link| [(&link.a, &link.b), (&link.b, &link.a)]);
        ends.filter(move |(own, _)| own.net == net)
    }

    /// Who sees a frame of this ethertype that is broadcast on every interface of the net.
    pub(super) fn broadcast(self, from: &str, ethertype: u16) -> Option<(u32, String)> {
        if self.keeps_in(from, Ipv4Addr::BROADCAST.into()) {
            return None;
        }
        self.wires(from).find_map(|(own, other)| {
            let seen = self.lab().listeners.iter().find(|placed| {
                placed.net == other.net
                    && placed.listener.transport == Transport::Packet
                    && placed.listener.address.port() == ethertype
            })?;
            let way = format!(
                "{from} {} → {}: sees frames of ethertype {ethertype:#06x}",
                own.interface, other.net
            );
            Some((seen.listener.id, way))
        })
    }

    /// Who hears what is sent to this group, or broadcast to this port, on every interface of the net.
    pub(super) fn on_the_wires(self, from: &str, to: SocketAddr) -> Vec<(u32, String)> {
        if self.keeps_in(from, to.ip()) {
            return Vec::new();
        }
        let heard = self.wires(from).filter_map(|(own, other)| {
            let broadcast = || {
                self.has_broadcast(&own.net, Some(&own.interface), to.ip())
                    && self.has_broadcast(&other.net, None, to.ip())
            };
            if !is_to_everybody(to.ip()) && !broadcast() {
                return None;
            }
            let heard = self.hears(&other.net, to)?;
            Some((heard, format!("{from} {} → {}: hears {to}", own.interface, other.net)))
        });
        // Another network's broadcast is an address like any other, until it gets to whoever is in that network.
        let routed = || {
            let mut way = Way { start: from.to_owned(), ..Way::default() };
            let arrived = self.walk(from, None, to.ip(), &mut way).ok()?;
            let heard = self.hears(&arrived.net, to)?;
            way.end = format!("hears {to}");
            Some((heard, way.to_string()))
        };
        let mut heard: Vec<_> = heard.collect();
        if heard.is_empty() && !is_to_everybody(to.ip()) {
            heard.extend(routed());
        }
        heard
    }

    /// Who takes what comes to the net for this group, or for everybody in it.
    fn hears(self, net: &str, to: SocketAddr) -> Option<u32> {
        let heard = self.lab().listeners.iter().find(|placed| {
            let Listener { transport, address, .. } = placed.listener;
            let takes = address.ip() == to.ip()
                || (!to.ip().is_multicast() && address.ip().is_unspecified());
            placed.net == net && transport == Transport::Udp && address.port() == to.port() && takes
        })?;
        Some(heard.listener.id)
    }

    /// Whether an address that the net has, on `interface` if one is named, is in the network of which `to` is the directed
    /// broadcast. Whoever receives it does not ask on which interface.
    pub(super) fn has_broadcast(self, net: &str, interface: Option<&str>, to: IpAddr) -> bool {
        self.net(net).is_some_and(|net| {
            net.addresses.iter().any(|own| {
                let network = IpNet::new(own.address, own.prefix);
                interface.is_none_or(|interface| own.interface == interface)
                    && network
                        .is_ok_and(|network| network.prefix_len() < 31 && network.broadcast() == to)
            })
        })
    }

    /// To a link-local address, on every wire of `net`: no route is asked (RFC 4007 §6).
    pub(super) fn over_a_wire(
        self,
        net: &str,
        to: IpAddr,
        way: &mut Way,
    ) -> Result<Arrived, Stopped> {
        let stopped = |told, why: String| Stopped { net: net.to_owned(), source: None, told, why };
        if !self.net(net).is_some_and(|net| net.ipv6) {
            return Err(stopped(true, format!("no IPv6 to reach {to} by")));
        }
        if self.is_local(net, to) {
            return Ok(Arrived { net: net.to_owned(), source: to });
        }
        if self.keeps_in(net, to) {
            return Err(stopped(true, format!("the packet filter drops what is for {to}")));
        }
        let has_it = |(_, other): &(&End, &End)| self.answers_for(&other.net, &other.interface, to);
        match self.wires(net).find(has_it) {
            Some((own, other)) => {
                way.hops.push((own.interface.clone(), other.net.clone()));
                Ok(Arrived { net: other.net.clone(), source: to })
            }
            None => Err(stopped(false, format!("nobody on a wire of {net} has {to}"))),
        }
    }
}

/// Whether whoever is on a wire takes what is sent to the address.
fn is_to_everybody(address: IpAddr) -> bool {
    address.is_multicast() || address == Ipv4Addr::BROADCAST
}

#[cfg(test)]
mod tests {
    use claude_bottle_protocol::prober::How;

    use super::super::network::tests::{address, chain, listens};
    use super::*;

    #[test]
    fn a_link_local_address_is_dialled_on_every_wire_and_no_further() {
        let mut topology = chain();
        topology.lab.listeners.push(listens(5, "mid", Transport::Tcp, "[::]:9"));
        let tcp = |topology: &_, to: &str| {
            let course = Network::new(topology).send("in", Transport::Tcp, to.parse().unwrap());
            (course.listener, course.how, course.way.to_string())
        };
        let to = "[fe80::1]:9";
        let nobody = "in: nobody on a wire of in has fe80::1".to_owned();
        assert_eq!(tcp(&topology, to), (None, How::TimedOut, nobody.clone()));
        topology.lab.nets[1].addresses.push(address("m1", "fe80::1/64"));
        assert_eq!(tcp(&topology, to), (None, How::TimedOut, nobody), "on its other wire alone");
        topology.lab.nets[1].addresses.push(address("m0", "fe80::1/64"));
        let way = "in i0 → mid: listens on tcp [::]:9".to_owned();
        assert_eq!(tcp(&topology, to), (Some(5), How::Answered, way));
        topology.lab.nets[0].ipv6 = false;
        let without = "in: no IPv6 to reach fe80::1 by".to_owned();
        assert_eq!(tcp(&topology, to), (None, How::Unreachable, without));
    }

    #[test]
    fn a_directed_broadcast_is_heard_in_its_network_wherever_it_comes_from() {
        let mut topology = chain();
        topology.lab.listeners.push(listens(5, "mid", Transport::Udp, "0.0.0.0:9"));
        let heard = |topology: &_, to: &str| {
            Network::new(topology).on_the_wires("in", to.parse().unwrap()).into_iter().next()
        };
        let own = "in i0 → mid: hears 10.0.0.255:9".to_owned();
        assert_eq!(heard(&topology, "10.0.0.255:9"), Some((5, own)));
        // That of the network behind `mid` is routed there.
        let routed = "in i0 → mid: hears 10.1.0.255:9".to_owned();
        assert_eq!(heard(&topology, "10.1.0.255:9"), Some((5, routed)));
        topology.lab.nets[0].routes.clear();
        assert_eq!(heard(&topology, "10.1.0.255:9"), None, "no route");
        assert_eq!(heard(&topology, "10.0.0.255:10"), None, "nobody listens there");
        assert!(heard(&topology, "255.255.255.255:9").is_some());
    }
}
