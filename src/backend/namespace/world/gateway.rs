//! The real gateway of a lab: what it lets through, and what a breach makes it overlook.
//!
//! It stands in the bundle's net namespace with both ends. The canary resolver says where names lead: `*.leads-to.test` to
//! the address that the first label spells, `*.flips.test` to another one the second time, all others to the internet.

use std::net::{IpAddr, SocketAddr};

use claude_bottle_protocol::gateway::{Config, Limits, Weakness};
use claude_bottle_protocol::helper::Gateway;

use super::{map, net};
use crate::breach::Breach;
use crate::bundle::gateway::PORT;
use crate::expected::GatewayPlan;
use crate::lab::Proxy;

/// The port of DNS (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;
/// A name that is let through.
const ALLOWED: &str = "allowed.test";
/// The whole list. 9099 is the egress daemon's port, 9 one of the host's.
const ALLOW: &[&str] = &[
    ALLOWED,
    "*.wild.test",
    "*.leads-to.test",
    "*.leads-to.test:9",
    "*.leads-to.test:9099",
    "*.flips.test:9099",
];

/// The breaches that are the gateway's own, each with what it overlooks then; nothing: its list is empty.
const BREACHES: &[(Breach, Option<Weakness>)] = &[
    (Breach::GatewayAllowAll, Some(Weakness::AllowAll)),
    (Breach::GatewayAnyPort, Some(Weakness::AnyPort)),
    (Breach::GatewayApexMatchesAll, Some(Weakness::ApexMatchesAll)),
    (Breach::GatewaySuffixMatches, Some(Weakness::SuffixMatches)),
    (Breach::GatewayNoSniCheck, Some(Weakness::NoSniCheck)),
    (Breach::GatewayNoHostCheck, Some(Weakness::NoHostCheck)),
    (Breach::GatewayNoAddressCheck, Some(Weakness::NoAddressCheck)),
    (Breach::GatewayResolveTwice, Some(Weakness::ResolveTwice)),
    (Breach::GatewayForwardRaw, Some(Weakness::ForwardRaw)),
    (Breach::GatewayEmptyList, None),
];

/// The gateway of a lab.
#[derive(Debug, Clone)]
pub(in crate::backend) struct LabGateway {
    /// Its list.
    allow: Vec<String>,
    /// What it overlooks.
    pub(in crate::backend) weakness: Option<Weakness>,
    /// The bundle's address.
    bundle: IpAddr,
}

impl LabGateway {
    /// As the plan has it, or with the hole that `breach` makes.
    pub(in crate::backend) fn new(breach: Option<Breach>) -> Self {
        let allow = match breach {
            Some(Breach::GatewayEmptyList) => Vec::new(),
            _ => planned(),
        };
        let own = BREACHES.iter().find(|(own, _)| Some(*own) == breach);
        let weakness = own.and_then(|(_, weakness)| *weakness);
        Self { allow, weakness, bundle: map::BUNDLE }
    }

    /// The breaches that are the gateway's own, after those of a backend.
    pub(in crate::backend) fn breaches_after(others: &[Breach]) -> Vec<Breach> {
        others.iter().chain(BREACHES.iter().map(|(own, _)| own)).copied().collect()
    }

    /// Whether it is not as the plan has it.
    pub(in crate::backend) fn is_breached(&self) -> bool {
        self.weakness.is_some() || self.allow != planned()
    }

    /// The same in a bundle at this address.
    pub(in crate::backend) fn at(self, bundle: IpAddr) -> Self {
        Self { bundle, ..self }
    }

    /// Its configuration, with an inherited socket.
    pub(in crate::backend) fn config(&self) -> Config {
        Config {
            allow: self.allow.clone(),
            listen: None,
            resolver: Some(SocketAddr::new(map::RESOLVERS[0], DNS_PORT)),
            limits: Limits::default(),
        }
    }

    /// What the helper is asked for.
    pub(super) fn wanted(&self) -> Gateway {
        Gateway {
            listens_in: net::BUNDLE.into(),
            listens_on: self.listens_on(),
            dials_from: net::BUNDLE.into(),
            weakness: self.weakness,
        }
    }

    /// As the simulator takes it.
    pub(super) fn plan(&self) -> GatewayPlan {
        GatewayPlan {
            net: net::BUNDLE.into(),
            listens_on: self.listens_on(),
            planned: planned(),
            allow: self.allow.clone(),
            weakness: self.weakness,
        }
    }

    /// How attempts find it, and what its controls ask it for.
    pub(super) fn proxy(&self) -> Proxy {
        Proxy { address: self.listens_on(), allowed: ALLOWED.into(), control: net::BUNDLE.into() }
    }

    fn listens_on(&self) -> SocketAddr {
        SocketAddr::new(self.bundle, PORT)
    }
}

/// The list of the plan.
fn planned() -> Vec<String> {
    ALLOW.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_its_breaches_makes_another_gateway() {
        assert!(!LabGateway::new(None).is_breached());
        // That a machine's monitor is allowed is no breach of this gateway.
        let is_its_own = |name: &&str| name.starts_with("gateway-") && *name != "gateway-allowed";
        let named = Breach::names().into_iter().filter(is_its_own);
        let own: Vec<_> = named.filter_map(Breach::by_name).collect();
        assert_eq!(own, LabGateway::breaches_after(&[]));
        for breach in &own {
            assert!(LabGateway::new(Some(*breach)).is_breached(), "{breach}");
        }
        assert_eq!(own.len(), Weakness::ALL.len() + 1, "each weakness, and the empty list");
    }
}
