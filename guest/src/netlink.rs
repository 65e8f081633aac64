//! rtnetlink requests, sent in batches over one socket per net namespace.
//!
//! A netlink socket remembers the namespace it was made in, so the helper configures every namespace of a lab
//! without moving between them. Every link gets an interface number that we choose, so none has to be looked up.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use claude_bottle_protocol::helper::{Address, Route};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::{
    AddressFamily as Family, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::failure::{Doing as _, Failure};

/// The interface number of `lo` in every net namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// How long both ends of a wire may take to come up. Measured: well below a millisecond; but it takes the kernel's
/// one lock on all network configuration, which whoever takes net namespaces down beside us holds for seconds.
const WIRES_UP: Duration = Duration::from_secs(10);
/// How long to wait between two looks at one.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// A netlink socket of one net namespace.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// One request and what it is for.
pub(crate) struct Request {
    what: String,
    flags: u16,
    message: RouteNetlinkMessage,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// A socket in the caller's current net namespace.
    pub(crate) fn open() -> Result<Self, Failure> {
        let socket = socket(
            Family::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )
        .doing(|| "open a netlink socket".into())?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Carries out all `requests`, in order; stops reading at the first that failed.
    pub(crate) fn apply(&mut self, requests: Vec<Request>) -> Result<(), Failure> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        let mut whats = Vec::new();
        for Request { what, flags, message } in requests {
            self.push(&mut bytes, NLM_F_REQUEST | NLM_F_ACK | flags, message);
            whats.push(what);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())
            .doing(|| "send a netlink request".into())?;
        let mut pending = whats.len();
        let mut buffer = vec![0; 64 * 1024];
        while pending > 0 {
            for message in self.receive(&mut buffer)? {
                let NetlinkPayload::Error(error) = message.payload else { continue };
                pending = pending.saturating_sub(1);
                if let Some(code) = error.code {
                    let index = message.header.sequence_number.wrapping_sub(first) as usize;
                    let what = whats.get(index).cloned().unwrap_or_default();
                    return Err(Failure { what, errno: -code.get() });
                }
            }
        }
        Ok(())
    }

    /// Whether the link comes up at both ends (`IF_OPER_UP`) in time: until then a packet may be lost.
    pub(crate) fn comes_up(&mut self, interface: u32) -> Result<bool, Failure> {
        for _ in 0..WIRES_UP.as_micros() / LOOK_AGAIN.as_micros() {
            if self.is_up(interface)? {
                return Ok(true);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(false)
    }

    fn is_up(&mut self, interface: u32) -> Result<bool, Failure> {
        let mut link = LinkMessage::default();
        link.header.index = interface;
        let mut bytes = Vec::new();
        self.push(&mut bytes, NLM_F_REQUEST, RouteNetlinkMessage::GetLink(link));
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())
            .doing(|| "ask for a link's state".into())?;
        let mut buffer = vec![0; 64 * 1024];
        for message in self.receive(&mut buffer)? {
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) =
                message.payload
            {
                return Ok(link
                    .attributes
                    .iter()
                    .any(|attribute| matches!(attribute, LinkAttribute::OperState(State::Up))));
            }
        }
        Ok(false)
    }

    fn push(&mut self, bytes: &mut Vec<u8>, flags: u16, message: RouteNetlinkMessage) {
        self.sequence += 1;
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    fn receive(
        &self,
        buffer: &mut [u8],
    ) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, Failure> {
        let length = recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty())
            .doing(|| "read a netlink answer".into())?;
        let mut rest = &buffer[..length];
        let mut messages = Vec::new();
        while rest.len() >= 16 {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| Failure::new(format!("read a netlink answer: {error}")))?;
            let length = (message.header.length as usize).next_multiple_of(4);
            messages.push(message);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(messages)
    }
}

/// Makes a veth pair: `name` with number `index` here, the peer in another net namespace.
pub(crate) fn veth(
    (name, index): (&str, u32),
    (peer_name, peer_index, peer_net): (&str, u32, BorrowedFd<'_>),
) -> Request {
    veth_with(name, index, peer_name, elsewhere((peer_name, peer_index, peer_net)))
}

/// Makes a veth pair: `name`, as a port of the bridge with number `bridge`, up; the peer in another net namespace. A `%d` in
/// the name becomes the first number that is free.
pub(crate) fn bridge_port(
    (name, bridge): (&str, u32),
    (peer_name, peer_index, peer_net): (&str, u32, BorrowedFd<'_>),
) -> Request {
    let peer = elsewhere((peer_name, peer_index, peer_net));
    let mut request = veth_with(name, 0, peer_name, peer);
    if let RouteNetlinkMessage::NewLink(link) = &mut request.message {
        link.attributes.push(LinkAttribute::Controller(bridge));
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
    }
    request
}

/// The end of a veth pair that is in another net namespace.
fn elsewhere((name, index, net): (&str, u32, BorrowedFd<'_>)) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.header.index = index;
    peer.attributes =
        vec![LinkAttribute::IfName(name.into()), LinkAttribute::NetNsFd(net.as_raw_fd())];
    peer
}

fn veth_with(name: &str, index: u32, peer_name: &str, peer: LinkMessage) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    Request {
        what: format!("make the veth pair {name} – {peer_name}"),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: RouteNetlinkMessage::NewLink(link),
    }
}

/// Makes a veth pair with both ends in the socket's own net namespace.
pub(crate) fn veth_here(name: &str, peer_name: &str) -> Request {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(peer_name.into())];
    veth_with(name, 0, peer_name, peer)
}

/// Sets an interface up.
pub(crate) fn up(index: u32) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    Request {
        what: format!("set interface {index} up"),
        flags: 0,
        message: RouteNetlinkMessage::SetLink(link),
    }
}

/// Adds an address; IPv6 ones can be used at once (no duplicate address detection).
pub(crate) fn address(index: u32, wanted: &Address) -> Request {
    let Address { interface, address, prefix } = wanted;
    let mut message = AddressMessage::default();
    message.header.family = family(*address);
    message.header.prefix_len = *prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(*address), AddressAttribute::Address(*address)];
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Request {
        what: format!("add the address {address}/{prefix} to {interface}"),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: RouteNetlinkMessage::NewAddress(message),
    }
}

/// Adds a route.
pub(crate) fn route(index: u32, wanted: &Route) -> Request {
    let Route { destination, prefix, via, interface } = wanted;
    let mut message = route_message(index, wanted);
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = if via.is_some() { RouteScope::Universe } else { RouteScope::Link };
    message.header.kind = RouteType::Unicast;
    Request {
        what: format!("add the route {destination}/{prefix} on {interface}"),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: RouteNetlinkMessage::NewRoute(message),
    }
}

/// Adds a route by which an address cannot be reached. It has no interface, so that none must be up.
pub(crate) fn unreachable(destination: IpAddr) -> Request {
    let mut message = destined(destination, if destination.is_ipv4() { 32 } else { 128 });
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unreachable;
    Request {
        what: format!("add a route by which {destination} is unreachable"),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: RouteNetlinkMessage::NewRoute(message),
    }
}

/// Removes a route, whoever added it.
pub(crate) fn no_route(index: u32, unwanted: &Route) -> Request {
    let Route { destination, prefix, interface, .. } = unwanted;
    let mut message = route_message(index, unwanted);
    // Of any scope.
    message.header.scope = RouteScope::NoWhere;
    Request {
        what: format!("remove the route {destination}/{prefix} on {interface}"),
        flags: 0,
        message: RouteNetlinkMessage::DelRoute(message),
    }
}

/// What tells a route from another one.
fn route_message(index: u32, route: &Route) -> RouteMessage {
    let Route { destination, prefix, via, .. } = route;
    let mut message = destined(*destination, *prefix);
    if let Some(via) = via {
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(*via)));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

fn destined(destination: IpAddr, prefix: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    if prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
    }
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
