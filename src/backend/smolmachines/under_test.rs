//! A machine under test, as it is wanted: the same for a launch and for what is expected of it.

use ipnet::Ipv4Net;

use super::plan::{GATEWAY, Spec};
use super::smolvm::arguments::Size;
use super::smolvm::version::UNENFORCED;
use super::{failed, holes};
use crate::backend::LaunchError;
use crate::backend::docker::plan::Plan as BundlePlan;
use crate::backend::docker::under_test::DEFAULT_BRIDGE;
use crate::backend::namespace::world::elsewhere::Place;
use crate::backend::namespace::world::gateway::LabGateway;
use crate::breach::Breach;

/// The one subnet of a bundle that is alone on its engine, which the lab knows, and that of its way out.
const POOL: &str = "10.210.0.0/28";
const POOL_OUT: &str = "10.210.0.32/28";
/// A machine that does nothing but try: one processor, and memory in MiB.
pub(super) const SIZE: Size = Size { processors: Some(1), memory: Some(1024) };

/// The variable that says how many times as long everything may take in a machine, where its processor is emulated.
const SLOWNESS: &str = "CLAUDE_BOTTLE_SMOLVM_SLOWNESS";

/// The name of one.
pub(super) fn name() -> String {
    format!("bottle-{:08x}", rand::random::<u32>())
}

/// Whether a smolvm that drops allow-lists will do.
pub(super) fn unenforced() -> bool {
    std::env::var_os(UNENFORCED).is_some_and(|value| value == "1")
}

/// How many times as long everything may take, as [`SLOWNESS`] says.
pub(super) fn slowness() -> Result<u32, LaunchError> {
    let Some(said) = std::env::var_os(SLOWNESS) else { return Ok(1) };
    let number = said.to_str().and_then(|said| said.parse().ok()).filter(|n| (1..=100).contains(n));
    number.ok_or_else(|| {
        failed("it is not known how long to wait")(format!("{SLOWNESS} is 1 to 100"))
    })
}

/// A machine under test.
pub(super) struct UnderTest {
    /// The machine and its bundle.
    pub(super) spec: Spec,
    /// The gateway in the bundle.
    gateway: LabGateway,
}

impl UnderTest {
    /// Sound, or with the hole that `breach` makes. `loopback`: whether somebody has said that a machine for work may be given the
    /// host's loopback. The lab's host reaches every bundle, so that it would not be needed here; it is given all the same, for the
    /// probes to tell what is open then.
    pub(super) fn new(name: String, breach: Option<Breach>, loopback: bool) -> Self {
        let gateway = LabGateway::new(breach);
        let mut spec = Spec {
            name,
            size: SIZE,
            gateway: Some(gateway.config()),
            pool: Some(POOL.parse().expect("a network")),
            pool_out: Some(POOL_OUT.parse().expect("a network")),
            ..Spec::default()
        };
        spec.holes.gateway_weakness = gateway.weakness;
        if let Some(breach) = breach {
            holes::make(&mut spec, breach);
        }
        let monitor = Ipv4Net::from(GATEWAY);
        if loopback && !spec.holes.also_allowed.contains(&monitor) {
            spec.holes.also_allowed.push(monitor);
        }
        Self { spec, gateway }
    }

    /// Where it is, seen from the lab.
    pub(super) fn place(&self, bundle: &BundlePlan) -> Place {
        Place {
            bundle: bundle.bundle_address.into(),
            gateway: bundle.gateway.into(),
            default_bridge: DEFAULT_BRIDGE,
            other_bottle: Vec::new(),
            way_out: Some(self.gateway.clone()),
            egress_everywhere: self.spec.holes.egress_on_all_interfaces,
            stray_port: false,
            monitor: Some(GATEWAY.into()),
        }
    }
}
