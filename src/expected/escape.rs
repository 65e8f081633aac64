//! Ways out by way of other processes: into their net namespaces, and over their sockets.

use std::net::{IpAddr, SocketAddr};

use claude_bottle_protocol::helper::{LeftOpen, REAL};
use claude_bottle_protocol::prober::{How, Target};
use claude_bottle_protocol::witness::Transport;

use super::methods::Fate;
use super::network::Network;
use super::outside::has;
use super::{Topology, names};

/// Enter the net of each process in sight (`setns(2)`: needs `CAP_SYS_ADMIN` there), and connect.
pub(super) fn enter(topology: &Topology, target: &Target) -> Fate {
    let bottle = &topology.bottle;
    if bottle.own_processes {
        return stays(How::Unreachable, "no process of another net namespace is in sight");
    }
    if bottle.seccomp {
        return stays(How::Prohibited, "the filter on system calls refuses setns");
    }
    if !has(bottle, "SYS_ADMIN") {
        return stays(How::Prohibited, "no net namespace may be entered without CAP_SYS_ADMIN");
    }
    let others = || topology.processes.iter().filter(|process| process.net != bottle.net);
    let staying = others().filter(|process| process.stays).find_map(|process| {
        let (listener, way) = arrival(topology, &process.net, Transport::Tcp, target)?;
        Some(Fate::Arrives { listener, way })
    });
    let passing = || {
        others().find_map(|process| {
            let (_, way) = arrival(topology, &process.net, Transport::Tcp, target)?;
            let way = format!("{way}, if a control happens to be sent from there");
            Some(Fate::MayArrive { how: How::Refused, way })
        })
    };
    let none = || stays(How::Refused, "none of the processes in sight is where that listens");
    staying.or_else(passing).unwrap_or_else(none)
}

/// Take a UDP socket of each process in sight (`pidfd_getfd(2)`: needs `CAP_SYS_PTRACE`), and send: a socket stays in the
/// net that it was made in.
pub(super) fn steal(topology: &Topology, target: &Target) -> Fate {
    let bottle = &topology.bottle;
    if bottle.own_processes {
        return stays(How::Unreachable, "no process of another net namespace is in sight");
    }
    if !has(bottle, "SYS_PTRACE") {
        return stays(How::Prohibited, "no socket may be taken without CAP_SYS_PTRACE");
    }
    let others = topology.processes.iter().filter(|one| one.stays && one.net != bottle.net);
    let mut sockets = others.flat_map(|process| &process.sockets);
    let arrives = sockets.find_map(|net| arrival(topology, net, Transport::Udp, target));
    match arrives {
        Some((listener, way)) => Fate::Arrives { listener, way },
        None => stays(How::Sent, "no socket in sight leads there"),
    }
}

/// Use a socket that was left open: it stays in the net that it was made in.
pub(super) fn inherit(topology: &Topology, transport: Transport, target: &Target) -> Fate {
    let left_open = topology.bottle.left_open.iter().filter(|left| left.transport == transport);
    let nets: Vec<_> = left_open.map(|left| left.net.as_str()).collect();
    if nets.contains(&REAL) {
        let way = "a socket of the real net was left open, which is not used".into();
        return Fate::Fused { way };
    }
    match nets.iter().find_map(|net| arrival(topology, net, transport, target)) {
        Some((listener, way)) => Fate::Arrives { listener, way },
        None if nets.is_empty() => stays(How::Unreachable, "no such socket was left open"),
        None => stays(How::TimedOut, "no socket that was left open leads there"),
    }
}

/// Use a connection that was left open: it goes on, whatever became of the way that it was opened by.
pub(super) fn established(topology: &Topology, target: &Target) -> Fate {
    let is_there = |left: &&LeftOpen| {
        left.connected.is_some_and(|peer| {
            peer.port() == target.port && Ok(peer.ip()) == target.host.parse::<IpAddr>()
        })
    };
    let Some(left) = topology.bottle.left_open.iter().find(is_there) else {
        return stays(How::Unreachable, "no connection was left open");
    };
    match arrival(topology, &left.net, left.transport, target) {
        Some((listener, way)) => Fate::Arrives { listener, way },
        None => stays(How::TimedOut, "the connection that was left open leads nowhere"),
    }
}

fn stays(how: How, way: &str) -> Fate {
    Fate::Stays { how, way: way.into() }
}

fn arrival(
    topology: &Topology,
    from: &str,
    transport: Transport,
    target: &Target,
) -> Option<(u32, String)> {
    let network = Network::new(topology);
    names::resolve(&target.host, &topology.bottle).into_iter().find_map(|ip| {
        let course = network.send(from, transport, SocketAddr::new(ip, target.port));
        Some((course.listener?, course.way.to_string()))
    })
}
