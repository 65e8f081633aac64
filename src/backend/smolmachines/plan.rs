//! What a machine is made with: pure data, and the plans that are refused.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use super::smolvm::arguments::Open;
use super::smolvm::version::{Unenforced, Version};

/// The monitor's own address on a machine's network, and its resolver. Where an allow-list covers it, every port of the
/// *host's loopback* is behind it (smolvm ≥ 1.7.2).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);

/// What is wanted of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// The bottle's name: `a-z`, `0-9`, `-`.
    pub name: String,
    /// How many processors it has, and how much memory in MiB; none: smolvm's own defaults.
    pub size: Option<(u32, u32)>,
    /// Variables of its environment, none of them secret.
    pub env: Vec<(String, String)>,
    /// From where the bundle's subnet is taken; none: from where an engine's bottles take theirs.
    pub pool: Option<Ipv4Net>,
    /// What is deliberately wrong; nothing in a sound bottle.
    pub holes: Holes,
}

/// Deliberate holes. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holes {
    /// What the machine is given for a network.
    pub network: Network,
    /// Further networks on its allow-list.
    pub also_allowed: Vec<Ipv4Net>,
    /// Whether the toolbox in it cannot be executed.
    pub noexec: bool,
    /// Whether the egress daemon is bound to every address of the bundle. For the lab, whose witness stands in for it.
    pub egress_on_all_interfaces: bool,
}

/// What a machine is given for a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// One with an allow-list.
    #[default]
    Allowed,
    /// One without: a hole.
    Open(Open),
    /// None at all: not even the bundle is reached.
    Missing,
}

/// A machine's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The machine's name, which is the bottle's.
    pub name: String,
    /// The bundle's address.
    pub bundle: Ipv4Addr,
    /// What it may reach.
    pub allow: Vec<IpNet>,
    /// The network without an allow-list that it has, if it has such a one.
    pub open: Option<Open>,
    /// Processors, and MiB of memory.
    pub size: Option<(u32, u32)>,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

/// A plan that is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// This smolvm would drop the allow-list.
    #[error(transparent)]
    Unenforced(#[from] Unenforced),
    /// The allow-list opens the host's loopback.
    #[error(
        "the allow-list has {0} on it, which covers the monitor's gateway {GATEWAY}: every port of this host's loopback would be open to \
         the machine (leave it out)"
    )]
    Gateway(IpNet),
}

impl Plan {
    /// Plans a machine whose bundle is at `bundle`. `unenforced`: whether a smolvm that drops allow-lists will do.
    pub fn new(
        spec: &Spec,
        bundle: Ipv4Addr,
        version: Version,
        unenforced: bool,
    ) -> Result<Self, Refused> {
        version.gate(unenforced)?;
        let holes = &spec.holes;
        let mut allow = Vec::new();
        if holes.network == Network::Allowed {
            allow.push(IpNet::V4(Ipv4Net::from(bundle)));
            allow.extend(holes.also_allowed.iter().copied().map(IpNet::V4));
        }
        // Whoever wants that names the address itself, and nothing wider that happens to cover it.
        let named = IpNet::V4(Ipv4Net::from(GATEWAY));
        let covers = |net: &&IpNet| net.contains(&named.addr()) && **net != named;
        if let Some(wide) = allow.iter().find(covers) {
            return Err(Refused::Gateway(*wide));
        }
        Ok(Self {
            name: spec.name.clone(),
            bundle,
            allow,
            open: match holes.network {
                Network::Open(open) => Some(open),
                Network::Allowed | Network::Missing => None,
            },
            size: spec.size,
            env: spec.env.clone(),
        })
    }

    /// What smolvm tells of the machine's allow-list where that is not the plan's; none where it is, or is not told.
    pub fn differs(&self, told: Option<&[String]>) -> Option<String> {
        let told = told?;
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        let (mut planned, mut seen) = (Vec::new(), Vec::new());
        planned.extend(self.allow.iter().map(ToString::to_string));
        seen.extend(told.iter().cloned());
        let (planned, seen) = (sorted(planned), sorted(seen));
        let list = |all: &[String]| if all.is_empty() { "nothing".into() } else { all.join(", ") };
        (planned != seen).then(|| format!("{} where {} was planned", list(&seen), list(&planned)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Version = Version::new(1, 32, 2);
    const BUNDLE: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 2);

    fn planned(holes: Holes) -> Result<Plan, Refused> {
        let spec = Spec { name: "b".into(), holes, ..Spec::default() };
        Plan::new(&spec, BUNDLE, NEW, false)
    }

    #[test]
    fn a_sound_machine_reaches_its_bundle_and_nothing_else() {
        let plan = planned(Holes::default()).unwrap();
        assert_eq!(plan.allow, ["10.210.0.2/32".parse().unwrap()]);
        assert_eq!(plan.open, None);
    }

    #[test]
    fn each_network_is_what_it_is_called() {
        let plan = |network| planned(Holes { network, ..Holes::default() }).unwrap();
        let (open, none) = (plan(Network::Open(Open::Own)), plan(Network::Missing));
        assert_eq!((open.allow.len(), open.open), (0, Some(Open::Own)));
        assert_eq!((none.allow.len(), none.open), (0, None));
    }

    #[test]
    fn the_hosts_loopback_is_opened_by_name_or_not_at_all() {
        let with = |net: &str| {
            let also_allowed = vec![net.parse().unwrap()];
            planned(Holes { also_allowed, ..Holes::default() })
        };
        for wide in ["0.0.0.0/0", "100.64.0.0/10", "100.96.0.0/30", "100.96.0.0/31"] {
            assert_eq!(with(wide), Err(Refused::Gateway(wide.parse().unwrap())));
        }
        assert_eq!(with("100.96.0.1/32").unwrap().allow.len(), 2);
        assert_eq!(with("10.0.0.0/8").unwrap().allow.len(), 2);
    }

    #[test]
    fn a_smolvm_that_drops_the_list_is_refused_unless_it_is_wanted() {
        let spec = Spec::default();
        let old = Version::new(1, 7, 5);
        assert!(matches!(Plan::new(&spec, BUNDLE, old, false), Err(Refused::Unenforced(_))));
        assert!(Plan::new(&spec, BUNDLE, old, true).is_ok());
    }

    #[test]
    fn a_list_that_is_told_must_be_the_plans() {
        let plan = planned(Holes::default()).unwrap();
        let told = |all: &[&str]| {
            let all: Vec<_> = all.iter().map(ToString::to_string).collect();
            plan.differs(Some(&all))
        };
        assert_eq!(plan.differs(None), None);
        assert_eq!(told(&["10.210.0.2/32"]), None);
        assert_eq!(told(&[]).as_deref(), Some("nothing where 10.210.0.2/32 was planned"));
        let more = told(&["10.210.0.2/32", "10.0.0.0/8"]);
        assert_eq!(
            more.as_deref(),
            Some("10.0.0.0/8, 10.210.0.2/32 where 10.210.0.2/32 was planned")
        );
    }
}
