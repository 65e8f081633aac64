//! The monitor of a virtual machine: it takes what the machine sends, and opens connections of its own from a net of the host's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use claude_bottle_protocol::prober::{Action, How};
use claude_bottle_protocol::witness::Transport;
use ipnet::IpNet;

use super::Topology;
use super::methods::Fate;
use super::network::{Course, Network, Way};

/// The port of DNS (RFC 1035 §4.2).
const DNS: u16 = 53;

/// A monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// The net of the machine.
    pub machine: String,
    /// The net that it is in.
    pub net: String,
    /// What it opens connections to.
    pub allow: Vec<IpNet>,
    /// What it opens none to all the same.
    pub deny: Vec<IpNet>,
    /// What the machine takes for a wire of its own: a datagram socket that is connected to somebody there gets no further.
    pub wire: Option<IpNet>,
    /// The network that it makes for the machine; none where it only passes on system calls, also those that connect to what the
    /// machine takes for its own loopback.
    pub network: Option<Made>,
}

/// A network that a monitor makes for its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The monitor's own address on it. The loopback of the monitor's net is behind it, over TCP.
    pub gateway: IpAddr,
    /// Whom the monitor asks whatever is asked of a resolver.
    pub resolver: SocketAddr,
    /// The resolvers in whose place it answers over TCP, where port 53 of others is closed; over UDP it does for every address.
    pub resolvers: Vec<IpAddr>,
}

impl Monitor {
    /// Whether what the machine sends to itself gets to the monitor all the same.
    pub(super) fn takes_local(&self, transport: Transport) -> bool {
        self.network.is_none() && transport == Transport::Tcp
    }

    /// How it looks to the machine that nothing is opened.
    fn refusal(&self, transport: Transport, to: SocketAddr) -> How {
        let denied = self.network.is_none() && self.deny.iter().any(|net| net.contains(&to.ip()));
        match transport {
            Transport::Tcp if denied => How::Prohibited,
            Transport::Tcp => How::Refused,
            _ => How::TimedOut,
        }
    }

    /// Where it takes what is for `to`, if anywhere.
    fn opens(&self, transport: Transport, to: SocketAddr) -> Option<SocketAddr> {
        let has = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&to.ip()));
        let made = self.network.as_ref();
        match (made, transport) {
            (_, transport) if !matches!(transport, Transport::Tcp | Transport::Udp) => None,
            (Some(made), _) if to.port() == DNS => {
                let asks = transport == Transport::Udp || made.resolvers.contains(&to.ip());
                asks.then_some(made.resolver)
            }
            _ if !has(&self.allow) || has(&self.deny) => None,
            (Some(made), _) if made.gateway == to.ip() => {
                let loopback = (Ipv4Addr::LOCALHOST, to.port()).into();
                (transport == Transport::Tcp).then_some(loopback)
            }
            _ => Some(to),
        }
    }
}

/// What a machine's own kernel does not hand to its monitor.
pub(super) fn stays_inside(action: &Action, topology: &Topology) -> Option<Fate> {
    let monitor = topology.monitors.iter().find(|one| one.machine == topology.bottle.net)?;
    let passes_on = monitor.network.is_none();
    let on_wire = |host: &str| {
        let (wire, ip) = (monitor.wire?, host.parse::<IpAddr>().ok()?);
        wire.contains(&ip).then_some(())
    };
    let (how, why) = match action {
        Action::Mptcp(_) => (How::SocketDenied, "the machine's kernel makes no multipath sockets"),
        Action::TcpFastOpen(_) if passes_on => {
            (How::Unreachable, "no data goes with a connection that is passed on")
        }
        Action::Udp(target) if on_wire(&target.host).is_some() => {
            (How::Unreachable, "the machine looks for it on a wire of its own")
        }
        _ => return None,
    };
    Some(Fate::Stays { how, way: format!("{}: {why}", monitor.machine) })
}

impl Network<'_> {
    /// What comes of sending to `to` from the machine that `monitor` runs.
    pub(super) fn by_monitor(
        self,
        monitor: &Monitor,
        transport: Transport,
        to: SocketAddr,
    ) -> Course {
        let mut way = Way { start: monitor.machine.clone(), ..Way::default() };
        let Some(opened) = monitor.opens(transport, to) else {
            way.end = format!("the monitor opens nothing to {}", to.ip());
            let how = monitor.refusal(transport, to);
            return Course { listener: None, half_open: None, how, way };
        };
        let further = self.send(&monitor.net, transport, opened);
        way.end = format!("the monitor takes it on: {}", further.way);
        Course { way, ..further }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Topology;
    use claude_bottle_protocol::prober::Target;

    use super::super::network::tests::{chain, listens};
    use super::*;

    /// A machine beside `mid`, in which its monitor is.
    fn machine(allow: &[&str]) -> Topology {
        let mut topology = chain();
        let machine =
            claude_bottle_protocol::helper::Net { name: "vm".into(), ..Default::default() };
        topology.lab.nets.push(machine);
        topology.lab.listeners.push(listens(5, "mid", Transport::Udp, "127.0.0.1:53"));
        topology.monitors.push(Monitor {
            machine: "vm".into(),
            net: "mid".into(),
            allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
            deny: Vec::new(),
            wire: None,
            network: Some(Made {
                gateway: "100.96.0.1".parse().unwrap(),
                resolver: "127.0.0.1:53".parse().unwrap(),
                resolvers: vec!["1.1.1.1".parse().unwrap()],
            }),
        });
        topology
    }

    fn sent(topology: &Topology, transport: Transport, to: &str) -> (Option<u32>, How, String) {
        let course = Network::new(topology).send("vm", transport, to.parse().unwrap());
        (course.listener, course.how, course.way.to_string())
    }

    #[test]
    fn what_is_allowed_is_opened_from_the_monitors_net() {
        let topology = machine(&["203.0.113.1/32"]);
        let way = "vm: the monitor takes it on: mid m1 → out: listens on tcp [::]:80".to_owned();
        assert_eq!(
            sent(&topology, Transport::Tcp, "203.0.113.1:80"),
            (Some(1), How::Answered, way)
        );
        let closed = "vm: the monitor opens nothing to 10.1.0.2".to_owned();
        assert_eq!(sent(&topology, Transport::Tcp, "10.1.0.2:80"), (None, How::Refused, closed));
        assert_eq!(sent(&topology, Transport::Udp, "10.1.0.2:80").1, How::TimedOut);
        assert_eq!(sent(&topology, Transport::Icmp, "203.0.113.1:0").1, How::TimedOut);
    }

    #[test]
    fn whoever_is_asked_for_a_name_the_monitor_asks_its_own_resolver() {
        let topology = machine(&[]);
        assert_eq!(sent(&topology, Transport::Udp, "198.51.100.7:53").0, Some(5));
        // Over TCP in the place of those it knows alone, and nobody listens for that here.
        let known = sent(&topology, Transport::Tcp, "1.1.1.1:53");
        assert!(known.2.contains("nothing listens on tcp 127.0.0.1:53"), "{known:?}");
        let other = sent(&topology, Transport::Tcp, "198.51.100.7:53");
        assert!(other.2.contains("opens nothing"), "{other:?}");
    }

    #[test]
    fn a_monitor_that_passes_on_system_calls_has_neither_resolver_nor_address() {
        let mut topology = machine(&["0.0.0.0/0"]);
        topology.monitors[0].network = None;
        topology.monitors[0].deny.push("203.0.113.0/24".parse().unwrap());
        assert_eq!(sent(&topology, Transport::Udp, "10.1.0.2:53").0, Some(2));
        assert_eq!(sent(&topology, Transport::Tcp, "100.96.0.1:9").0, None);
        assert_eq!(sent(&topology, Transport::Tcp, "10.1.0.2:80").0, Some(1));
        assert_eq!(sent(&topology, Transport::Tcp, "203.0.113.1:80").1, How::Prohibited);
    }

    #[test]
    fn a_port_53_that_the_monitor_does_not_answer_is_closed_over_tcp() {
        let topology = machine(&["0.0.0.0/0"]);
        let other = sent(&topology, Transport::Tcp, "10.1.0.2:53");
        assert_eq!((other.0, other.1), (None, How::Refused));
    }

    #[test]
    fn what_the_machines_own_kernel_does_not_hand_on_stays() {
        let mut topology = machine(&["0.0.0.0/0"]);
        topology.bottle.net = "vm".into();
        topology.monitors[0].network = None;
        topology.monitors[0].wire = Some("203.0.113.0/24".parse().unwrap());
        let stays = |topology: &Topology, action: &Action| match stays_inside(action, topology) {
            Some(Fate::Stays { how, .. }) => Some(how),
            None => None,
            other => panic!("{other:?}"),
        };
        let to = |host: &str| Target { host: host.into(), port: 443 };
        let (on, off) = (to("203.0.113.1"), to("10.1.0.2"));
        assert_eq!(stays(&topology, &Action::Mptcp(off.clone())), Some(How::SocketDenied));
        assert_eq!(stays(&topology, &Action::TcpFastOpen(off.clone())), Some(How::Unreachable));
        assert_eq!(stays(&topology, &Action::Udp(on.clone())), Some(How::Unreachable));
        assert_eq!(stays(&topology, &Action::Udp(off.clone())), None);
        assert_eq!(stays(&topology, &Action::UdpUnconnected(on.clone())), None);
        assert_eq!(stays(&topology, &Action::Tcp(on)), None);
        topology.bottle.net = "mid".into();
        assert_eq!(stays(&topology, &Action::Mptcp(off)), None, "no machine");
    }

    #[test]
    fn where_system_calls_are_passed_on_the_machines_loopback_is_the_hosts() {
        let mut topology = machine(&["0.0.0.0/0"]);
        topology.monitors[0].network = None;
        assert_eq!(sent(&topology, Transport::Tcp, "127.0.0.1:9").0, Some(4));
        // A datagram stays where it is.
        assert_eq!(sent(&topology, Transport::Udp, "127.0.0.1:9").1, How::Refused);
        topology.monitors[0].deny.push("127.0.0.0/8".parse().unwrap());
        let denied = sent(&topology, Transport::Tcp, "127.0.0.1:9");
        assert_eq!((denied.0, denied.1), (None, How::Prohibited));
    }

    #[test]
    fn the_monitors_loopback_is_behind_its_own_address_where_that_is_allowed() {
        let gateway = "100.96.0.1:9";
        assert_eq!(sent(&machine(&[]), Transport::Tcp, gateway).0, None);
        assert_eq!(sent(&machine(&["100.96.0.1/32"]), Transport::Tcp, gateway).0, Some(4));
        assert_eq!(sent(&machine(&["100.96.0.1/32"]), Transport::Udp, gateway).0, None);
        // The machine's own loopback stays its own.
        assert_eq!(sent(&machine(&["0.0.0.0/0"]), Transport::Tcp, "127.0.0.1:9").1, How::Refused);
    }
}
