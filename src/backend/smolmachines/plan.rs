//! What a machine is made with: pure data, and the plans that are refused.

use std::net::{Ipv4Addr, SocketAddrV4};

use claude_bottle_protocol::gateway::{Config, Weakness};
use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use super::smolvm::arguments::{Open, Size, Volume};
use super::smolvm::version::{Unenforced, Version};
use crate::bundle::gateway;

/// The monitor's own address on a machine's network, and its resolver. Where an allow-list covers it, every port of the
/// *host's loopback* is behind it (smolvm ≥ 1.7.2): the monitor opens what is dialled there at 127.0.0.1.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);
/// The variable that opens the host's loopback to a machine whose bundle is not reached in any other way.
pub const LOOPBACK: &str = "CLAUDE_BOTTLE_SMOLVM_LOOPBACK";

/// What is wanted of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// The bottle's name: `a-z`, `0-9`, `-`.
    pub name: String,
    /// The image, which the engine must have; none: the toolbox's own, as for probing.
    pub image: Option<String>,
    /// How much of its host it may take.
    pub size: Size,
    /// Variables of its environment, none of them secret.
    pub env: Vec<(String, String)>,
    /// Folders of the host's that it is shown.
    pub volumes: Vec<Volume>,
    /// What the machine is given for a network.
    pub network: Network,
    /// What its bundle's gateway lets through; none: the bundle has no way out.
    pub gateway: Option<Config>,
    /// The ports of its bundle at which a lab's witness stands in for daemons, that of the gateway first; none where daemons run.
    pub stand_ins: Vec<u16>,
    /// Whether the host's loopback may be opened to the machine, where this host does not reach the bundle's own address.
    pub loopback: bool,
    /// From where the bundle's subnet is taken; none: from where an engine's bottles take theirs.
    pub pool: Option<Ipv4Net>,
    /// From where that of its way out is taken; none: the same.
    pub pool_out: Option<Ipv4Net>,
    /// What is deliberately wrong; nothing in a sound bottle.
    pub holes: Holes,
}

/// Deliberate holes. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holes {
    /// Further networks on its allow-list.
    pub also_allowed: Vec<Ipv4Net>,
    /// Whether the toolbox in it cannot be executed.
    pub noexec: bool,
    /// What the gateway in its bundle overlooks.
    pub gateway_weakness: Option<Weakness>,
    /// Whether the egress daemon is bound to every address of the bundle. For the lab, whose witness stands in for it.
    pub egress_on_all_interfaces: bool,
}

impl Spec {
    /// The ports of its bundle that it must reach, that of the gateway first.
    pub(super) fn ports(&self) -> Vec<u16> {
        let served = self.gateway.as_ref().map(|_| gateway::PORT);
        served.into_iter().chain(self.stand_ins.iter().copied()).collect()
    }
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

/// How a machine comes to its bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the bundle's address, which this host reaches.
    Direct(Ipv4Addr),
    /// By the host's loopback, where the bundle's gateway is published at this port of 127.0.0.1. The monitor opens it there, for
    /// whoever dials [`GATEWAY`], and every other port as well.
    Loopback(u16),
}

impl Way {
    /// What a machine dials for its bundle.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Direct(address) => address,
            Self::Loopback(_) => GATEWAY,
        }
    }

    /// Where it finds the bundle's gateway.
    pub fn gateway(self) -> SocketAddrV4 {
        let port = match self {
            Self::Direct(_) => gateway::PORT,
            Self::Loopback(port) => port,
        };
        SocketAddrV4::new(self.address(), port)
    }
}

/// A machine's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The machine's name, which is the bottle's.
    pub name: String,
    /// How it comes to its bundle.
    pub way: Way,
    /// What it may reach.
    pub allow: Vec<IpNet>,
    /// The network without an allow-list that it has, if it has such a one.
    pub open: Option<Open>,
    /// How much of its host it may take.
    pub size: Size,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Folders of the host's that it is shown.
    pub volumes: Vec<Volume>,
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
    /// Nobody has said that the host's loopback may be opened.
    #[error(
        "the bundle would be reached by this host's loopback alone, of which every port would be open to the machine (set {LOOPBACK}=1 to \
         have it so)"
    )]
    Loopback,
    /// This smolvm leads nobody to the host's loopback.
    #[error(
        "machines of smolvm {version} do not reach this host's loopback (install smolvm {} or newer)",
        Version::REACHES_LOOPBACK
    )]
    NoLoopback {
        /// The release.
        version: Version,
    },
    /// The toolbox could not be executed in it.
    #[error(
        "smolvm {version} copies no permission bits, so that the toolbox could not be executed in a machine of another image than its own \
         (install smolvm {} or newer)",
        Version::COPIES_MODES
    )]
    NoModes {
        /// The release.
        version: Version,
    },
}

impl Plan {
    /// Plans a machine that comes to its bundle by `way`. `unenforced`: whether a smolvm that drops allow-lists will do.
    pub fn new(spec: &Spec, way: Way, version: Version, unenforced: bool) -> Result<Self, Refused> {
        version.gate(unenforced)?;
        if spec.image.is_some() && !version.copies_modes() {
            return Err(Refused::NoModes { version });
        }
        match way {
            Way::Loopback(_) if !spec.loopback => return Err(Refused::Loopback),
            Way::Loopback(_) if !version.reaches_loopback() => {
                return Err(Refused::NoLoopback { version });
            }
            Way::Loopback(_) | Way::Direct(_) => {}
        }
        let mut allow = Vec::new();
        if spec.network == Network::Allowed {
            allow.push(IpNet::V4(Ipv4Net::from(way.address())));
            let also = spec.holes.also_allowed.iter().copied().map(IpNet::V4);
            // It may be the way already.
            allow.extend(also.filter(|net| *net != IpNet::V4(Ipv4Net::from(way.address()))));
        }
        // Whoever wants that names the address itself, and nothing wider that happens to cover it.
        let named = IpNet::V4(Ipv4Net::from(GATEWAY));
        let covers = |net: &&IpNet| net.contains(&named.addr()) && **net != named;
        if let Some(wide) = allow.iter().find(covers) {
            return Err(Refused::Gateway(*wide));
        }
        let proxy = spec.gateway.as_ref().map(|_| gateway::variables_at(way.gateway().into()));
        Ok(Self {
            name: spec.name.clone(),
            way,
            allow,
            open: match spec.network {
                Network::Open(open) => Some(open),
                Network::Allowed | Network::Missing => None,
            },
            size: spec.size,
            env: spec.env.iter().cloned().chain(proxy.into_iter().flatten()).collect(),
            volumes: spec.volumes.clone(),
        })
    }

    /// Whether every port of the host's loopback is open to the machine.
    pub fn opens_loopback(&self) -> bool {
        self.allow.contains(&IpNet::V4(Ipv4Net::from(GATEWAY)))
    }

    /// What a person should know of it before anything runs there: a way that was chosen and opens more than it should.
    pub fn note(&self) -> Option<String> {
        match self.way {
            Way::Direct(_) => None,
            Way::Loopback(port) => Some(format!(
                "this host does not reach the bundle's address, so its gateway is published at 127.0.0.1:{port}, which the bottle \
                 dials as {}: every other port of this host's loopback is open to the bottle as well ({LOOPBACK}=1)",
                self.way.gateway()
            )),
        }
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
    use crate::bundle::gateway::config;
    use crate::bundle::pipelock::Allowlist;

    const NEW: Version = Version::new(1, 32, 2);
    const BUNDLE: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 2);

    const DIRECT: Way = Way::Direct(BUNDLE);

    fn planned(holes: Holes) -> Result<Plan, Refused> {
        let spec = Spec { name: "b".into(), holes, ..Spec::default() };
        Plan::new(&spec, DIRECT, NEW, false)
    }

    #[test]
    fn a_sound_machine_reaches_its_bundle_and_nothing_else() {
        let plan = planned(Holes::default()).unwrap();
        assert_eq!(plan.allow, ["10.210.0.2/32".parse().unwrap()]);
        assert_eq!(plan.open, None);
    }

    #[test]
    fn each_network_is_what_it_is_called() {
        let plan =
            |network| Plan::new(&Spec { network, ..Spec::default() }, DIRECT, NEW, false).unwrap();
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
        assert!(matches!(Plan::new(&spec, DIRECT, old, false), Err(Refused::Unenforced(_))));
        assert!(Plan::new(&spec, DIRECT, old, true).is_ok());
    }

    #[test]
    fn a_bundle_is_reached_by_loopback_where_somebody_has_said_so_and_nothing_else_is() {
        let closed = Spec { gateway: Some(config(&Allowlist::default())), ..Spec::default() };
        let (by, refused) = (Way::Loopback(49_153), Err(Refused::Loopback));
        assert_eq!(Plan::new(&closed, by, NEW, false), refused);
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("CLAUDE_BOTTLE_SMOLVM_LOOPBACK=1"), "{said}");
        let open = Spec { loopback: true, ..closed };
        let plan = Plan::new(&open, by, NEW, false).unwrap();
        assert_eq!(plan.allow, ["100.96.0.1/32".parse().unwrap()], "and not the bundle's address");
        let proxy = ("HTTPS_PROXY".to_owned(), "http://100.96.0.1:49153".to_owned());
        assert!(plan.env.contains(&proxy), "{:?}", plan.env);
        insta::assert_snapshot!(plan.note().unwrap(), @"this host does not reach the bundle's address, so its gateway is published at 127.0.0.1:49153, which the bottle dials as 100.96.0.1:49153: every other port of this host's loopback is open to the bottle as well (CLAUDE_BOTTLE_SMOLVM_LOOPBACK=1)");
        // To have said so opens nothing where the bundle is reached.
        let plan = Plan::new(&open, DIRECT, NEW, false).unwrap();
        assert_eq!(plan.note(), None);
        assert_eq!(plan.allow, ["10.210.0.2/32".parse().unwrap()]);
        let old = Version::new(1, 7, 1);
        assert_eq!(Plan::new(&open, by, old, true), Err(Refused::NoLoopback { version: old }));
    }

    #[test]
    fn a_toolbox_that_could_not_be_executed_is_not_copied() {
        let spec = Spec { image: Some("smith:1".into()), ..Spec::default() };
        let old = Version::new(1, 8, 0);
        assert_eq!(Plan::new(&spec, DIRECT, old, false), Err(Refused::NoModes { version: old }));
        assert!(Plan::new(&Spec::default(), DIRECT, old, false).is_ok(), "its own image has one");
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
