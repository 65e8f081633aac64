//! What each breach changes in a sound machine.

use std::sync::LazyLock;

use ipnet::Ipv4Net;

use super::plan::{GATEWAY, Network, Spec};
use super::smolvm::arguments::Open;
use super::smolvm::version::Version;
use crate::backend::namespace::world::elsewhere::Elsewhere;
use crate::backend::namespace::world::gateway::LabGateway;
use crate::breach::Breach;

/// The breaches that this backend can make.
pub(super) static ALL: LazyLock<Vec<Breach>> = LazyLock::new(|| LabGateway::breaches_after(OWN));

/// Those that are not its gateway's.
const OWN: &[Breach] = &[
    Breach::NoBundleRoute,
    Breach::NoexecRoot,
    Breach::EgressOnAllInterfaces,
    Breach::UnrestrictedNet,
    Breach::PlainNet,
    Breach::WideCidr,
    Breach::GatewayAllowed,
    Breach::PublishedPort,
];

/// The probes that a breach flips on this release and not on others; or, where the host's loopback is `open` to every machine, because
/// of that.
pub(super) fn flips_also(breach: Breach, release: Version, open: bool) -> &'static [&'static str] {
    let flips = match breach {
        Breach::PlainNet => !release.closes_loopback(),
        // Without a network nothing is open, and these say it themselves.
        Breach::NoBundleRoute | Breach::GatewayAllowed | Breach::UnrestrictedNet => false,
        _ => open,
    };
    if flips { &["loopback-reach"] } else { &[] }
}

/// Makes the one hole; that of a gateway is made with it, in the lab.
pub(super) fn make(spec: &mut Spec, breach: Breach) {
    let holes = &mut spec.holes;
    match breach {
        Breach::NoBundleRoute => spec.network = Network::Missing,
        Breach::NoexecRoot => holes.noexec = true,
        Breach::EgressOnAllInterfaces => holes.egress_on_all_interfaces = true,
        Breach::UnrestrictedNet => spec.network = Network::Open(Open::Own),
        Breach::PlainNet => spec.network = Network::Open(Open::PassedOn),
        Breach::WideCidr => holes.also_allowed.push(Elsewhere::private_range()),
        Breach::GatewayAllowed => holes.also_allowed.push(Ipv4Net::from(GATEWAY)),
        Breach::PublishedPort => holes.also_allowed.push(Ipv4Net::from(Elsewhere::published())),
        _ => {}
    }
}
