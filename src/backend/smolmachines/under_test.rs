//! A machine under test, as it is wanted: the same for a launch and for what is expected of it.

use ipnet::Ipv4Net;

use super::holes;
use super::plan::{GATEWAY, Holes, Spec};
use super::smolvm::arguments::Size;
use crate::backend::docker::plan::Plan as BundlePlan;
use crate::backend::docker::under_test::DEFAULT_BRIDGE;
use crate::backend::namespace::world::elsewhere::Place;
use crate::breach::Breach;

/// From where the bundle's subnet is taken, a /28: that one, which the lab knows.
pub(super) const POOL: &str = "10.210.0.0/28";
/// A machine that does nothing but try: one processor, and memory in MiB.
const SIZE: Size = Size { processors: Some(1), memory: Some(1024) };

/// Sound, or with the hole that `breach` makes. `loopback`: whether somebody has said that a machine for work may be given the host's
/// loopback. The lab's host reaches every bundle, so that it would not be needed here; it is given all the same, for the probes to
/// tell what is open then.
pub(super) fn spec(name: String, breach: Option<Breach>, loopback: bool) -> Spec {
    let pool = Some(POOL.parse().expect("a network"));
    let mut spec = Spec { name, size: SIZE, pool, ..Spec::default() };
    if let Some(breach) = breach {
        holes::make(&mut spec, breach);
    }
    let gateway = Ipv4Net::from(GATEWAY);
    if loopback && !spec.holes.also_allowed.contains(&gateway) {
        spec.holes.also_allowed.push(gateway);
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
