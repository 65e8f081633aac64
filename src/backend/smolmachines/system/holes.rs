//! What each breach changes in a machine on this machine's own network, and why the others are not made there.

use std::net::IpAddr;

use ipnet::Ipv4Net;

use crate::backend::namespace::world::gateway::LabGateway;
use crate::backend::namespace::world::ports;
use crate::backend::smolmachines::holes;
use crate::backend::smolmachines::plan::Spec;
use crate::breach::Breach;

/// The breaches that can be made there: whatever a prober then reaches is still this machine's, or the run's own.
pub(in crate::backend::smolmachines) const ALL: &[Breach] = &[
    Breach::NoBundleRoute,
    Breach::NoexecRoot,
    Breach::EgressOnAllInterfaces,
    Breach::WideCidr,
    Breach::GatewayAllowed,
];

/// Makes the one hole. `own`: this machine's own addresses.
pub(super) fn make(spec: &mut Spec, breach: Breach, own: &[IpAddr]) {
    match breach {
        // Nothing of anybody else's.
        Breach::WideCidr => spec.holes.also_allowed.extend(own.iter().filter_map(|ip| match ip {
            IpAddr::V4(v4) => Some(Ipv4Net::from(*v4)),
            IpAddr::V6(_) => None,
        })),
        _ => holes::make(spec, breach),
    }
    // Where the bundle's ports are published, this one is as well.
    if spec.holes.egress_on_all_interfaces {
        spec.stand_ins.push(ports::EGRESS);
    }
}

/// Why this breach is not made there, if it is not.
pub(in crate::backend::smolmachines) fn refused(breach: Breach) -> Option<String> {
    if ALL.contains(&breach) || !holes::ALL.contains(&breach) {
        return None;
    }
    let why = match breach {
        Breach::UnrestrictedNet | Breach::PlainNet => {
            "the bottle's network would lead out of this machine"
        }
        Breach::PublishedPort => "nobody publishes a port there for it",
        _ if LabGateway::new(Some(breach)).is_breached() => {
            "no gateway stands there, whose way out would lead out of this machine"
        }
        _ => "what the bottle would then reach is not the run's own",
    };
    Some(format!("{breach} is made on a private engine alone: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_breach_is_made_or_refused_with_a_reason() {
        for breach in holes::ALL.iter() {
            assert_eq!(ALL.contains(breach), refused(*breach).is_none(), "{breach}");
        }
    }
}
