//! What each breach changes on the machine's own engine, and why the others are not made there.

use super::machine;
use crate::backend::docker::holes;
use crate::backend::docker::spec::{Mount, Spec};
use crate::backend::namespace::world::gateway::LabGateway;
use crate::breach::Breach;

/// The breaches that can be made there: whatever the bottle then reaches is still the run's own.
pub(in crate::backend::docker) const ALL: &[Breach] = &[
    Breach::UnpinnedRoutes,
    Breach::HostNetwork,
    Breach::DockerSocketMounted,
    Breach::EgressOnAllInterfaces,
    Breach::SecondNetwork,
    Breach::JoinedNamespace,
    Breach::NetRaw,
    Breach::NetAdmin,
    Breach::NoBundleRoute,
    Breach::NoProcessLeft,
    Breach::PingGroupRange,
];

/// Makes the one hole.
pub(super) fn make(spec: &mut Spec, breach: Breach, neighbours: &str) {
    holes::make(spec, breach);
    match breach {
        // An internal one as well.
        Breach::SecondNetwork => spec.holes.second_network = Some(neighbours.to_owned()),
        // The run's own folder, with a socket in it that has the name of the engine's.
        Breach::DockerSocketMounted => {
            let source = machine::volume(neighbours);
            spec.holes.mounts = vec![Mount { source, target: "/var/run".into(), writable: false }];
        }
        // Else the filter would still keep frames in. They come no further than the bottle's own bridge.
        Breach::NetRaw => spec.holes.unfiltered = true,
        _ => {}
    }
}

/// Why this breach is not made on the machine's own engine, if it is not.
pub(in crate::backend::docker) fn refused(breach: Breach) -> Option<String> {
    if ALL.contains(&breach) || !holes::ALL.contains(&breach) {
        return None;
    }
    let why = match breach {
        Breach::OpenNetwork => "the bottle's network would lead out of this machine",
        Breach::UnpinnedFilter => "nobody listens there to what goes to everybody",
        Breach::UnpinnedResolver => "this machine's resolver would hand the bottle's look-ups on",
        Breach::Privileged | Breach::HostProcesses => {
            "the bottle could do what it likes on this machine"
        }
        Breach::SshAgentMounted | Breach::DbusMounted => {
            "the one socket that the run has there stands for the engine's"
        }
        _ if LabGateway::new(Some(breach)).is_breached() => {
            "no gateway stands there, whose way out would lead out of this machine"
        }
        Breach::HostGatewayAlias => {
            "the name would lead to the default bridge, where no witness stands"
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
