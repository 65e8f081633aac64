//! A machine under test, as it is wanted: the same for a launch and for what is expected of it.

use super::holes;
use super::plan::{GATEWAY, Holes, Spec};
use crate::backend::docker::plan::Plan as BundlePlan;
use crate::backend::docker::under_test::DEFAULT_BRIDGE;
use crate::backend::namespace::world::elsewhere::Place;
use crate::breach::Breach;

/// From where the bundle's subnet is taken, a /28: that one, which the lab knows.
pub(super) const POOL: &str = "10.210.0.0/28";
/// A machine that does nothing but try: one processor, and memory in MiB.
const SIZE: (u32, u32) = (1, 1024);

/// Sound, or with the hole that `breach` makes.
pub(super) fn spec(name: String, breach: Option<Breach>) -> Spec {
    let pool = Some(POOL.parse().expect("a network"));
    let mut spec = Spec { name, size: Some(SIZE), pool, ..Spec::default() };
    if let Some(breach) = breach {
        holes::make(&mut spec, breach);
    }
    spec
}

/// Where it is, seen from the lab.
pub(super) fn place(bundle: &BundlePlan, holes: &Holes) -> Place {
    Place {
        bundle: bundle.bundle_address.into(),
        gateway: bundle.gateway.into(),
        default_bridge: DEFAULT_BRIDGE,
        other_bottle: Vec::new(),
        way_out: None,
        egress_everywhere: holes.egress_on_all_interfaces,
        stray_port: false,
        monitor: Some(GATEWAY.into()),
    }
}
