//! A bottle under test, and another one beside it, as they are wanted: the same for a launch and for what is expected of it.

use std::net::{IpAddr, Ipv4Addr};

use super::holes;
use super::plan::Plan;
use super::spec::{Joined, Serves, Spec};
use crate::backend::namespace::world::elsewhere::Place;
use crate::backend::namespace::world::gateway::LabGateway;
use crate::breach::Breach;

/// The one subnet of a bottle that is alone on its engine: the attempts of two runs then read the same.
const POOL: &str = "10.210.0.0/28";
/// That of its way out.
const POOL_OUT: &str = "10.210.0.32/28";
/// That of the other bottle.
const OTHER_POOL: &str = "10.210.0.16/28";
/// The address of the engine's default bridge.
pub(in crate::backend) const DEFAULT_BRIDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1));
/// The other bottle's address on the network that the two share under a breach.
pub(super) const SHARED: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 4);

/// Two bottles.
#[derive(Debug, Clone)]
pub(super) struct UnderTest {
    /// The one under test.
    pub(super) bottle: Spec,
    /// The other one, which defends nothing: whatever does not get there was kept by the first.
    pub(super) other_bottle: Spec,
    /// The gateway in the first one's bundle, if there is one.
    gateway: Option<LabGateway>,
    /// Whether the other one is on the first one's network as well.
    pub(super) shared_network: bool,
}

impl UnderTest {
    /// Sound, or with the hole that `breach` makes.
    pub(super) fn new(breach: Option<Breach>) -> Self {
        let mut bottle = Spec::new("bottle");
        bottle.pool = POOL.parse().expect("a network");
        bottle.pool_out = POOL_OUT.parse().expect("a network");
        let mut other_bottle = Spec::new("other-bottle");
        other_bottle.pool = OTHER_POOL.parse().expect("a network");
        other_bottle.holes.unpinned_routes = true;
        if let Some(breach) = breach {
            holes::make(&mut bottle, breach);
        }
        // Whoever is in a bundle's net namespace has its way out. That breach is one of the machine's own engine as well, where no
        // bundle under test has any, and it is the same one here.
        let gateway = (bottle.holes.joined != Joined::Bundle).then(|| LabGateway::new(breach));
        bottle.bundle.serves = gateway.as_ref().map(|one| Serves::Gateway(one.config()));
        bottle.holes.gateway_weakness = gateway.as_ref().and_then(|one| one.weakness);
        let shared_network = breach == Some(Breach::SharedNetwork);
        Self { bottle, other_bottle, gateway, shared_network }
    }

    /// Where the two are, seen from the lab.
    pub(super) fn place(&self, own: &Plan, other: &Plan) -> Place {
        let shared = self.shared_network.then_some(SHARED.into());
        let holes = &self.bottle.holes;
        Place {
            bundle: own.bundle_address.into(),
            gateway: own.gateway.into(),
            default_bridge: DEFAULT_BRIDGE,
            other_bottle: [other.agent_address.into()].into_iter().chain(shared).collect(),
            way_out: self.gateway.clone(),
            egress_everywhere: holes.egress_on_all_interfaces,
            stray_port: holes.stray_port,
            monitor: None,
        }
    }
}
