//! The addresses of this machine's interfaces.

use std::net::{IpAddr, Ipv4Addr};

use nix::ifaddrs::InterfaceAddress;
use nix::net::if_::InterfaceFlags;

/// Every address that an interface of this machine has, as often as one has it.
pub(crate) fn interface_addresses() -> impl Iterator<Item = IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| address_of(&interface))
}

fn address_of(interface: &InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
}

/// The same, but for those that packets leave this machine to: outside of Linux what is for the own address of a tunnel goes into
/// the tunnel.
pub(crate) fn local_addresses() -> impl Iterator<Item = IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let stays = |interface: &InterfaceAddress| {
        cfg!(target_os = "linux") || !interface.flags.contains(InterfaceFlags::IFF_POINTOPOINT)
    };
    interfaces.filter(stays).filter_map(|interface| address_of(&interface))
}

/// The name of an interface of this machine that has the address.
pub(crate) fn interface_with(address: Ipv4Addr) -> Option<String> {
    let mut interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let has = |one: &InterfaceAddress| {
        one.address.and_then(|own| Some(own.as_sockaddr_in()?.ip())) == Some(address)
    };
    interfaces.find(has).map(|one| one.interface_name)
}
