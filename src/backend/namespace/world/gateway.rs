//! The real gateway of a lab: what it lets through, and what a breach makes it overlook.
//!
//! It stands in the bundle's net namespace with both ends. The canary resolver says where names lead: `*.leads-to.test` to
//! the address that the first label spells, `*.flips.test` to another one the second time, all others to the internet.

use std::net::SocketAddr;

use claude_bottle_protocol::gateway::{Config, Limits, Weakness};
use claude_bottle_protocol::helper::Gateway;

use super::{map, net};
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

/// The gateway of a lab.
#[derive(Debug, Clone)]
pub(super) struct LabGateway {
    /// Its list.
    pub(super) allow: Vec<String>,
    /// What it overlooks.
    pub(super) weakness: Option<Weakness>,
}

impl LabGateway {
    /// As the plan has it.
    pub(super) fn sound() -> Self {
        Self { allow: ALLOW.iter().map(ToString::to_string).collect(), weakness: None }
    }

    /// Its configuration.
    pub(super) fn config(&self) -> Config {
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
            listens_on: listens_on(),
            dials_from: net::BUNDLE.into(),
            weakness: self.weakness,
        }
    }

    /// As the simulator takes it.
    pub(super) fn plan(&self) -> GatewayPlan {
        GatewayPlan {
            net: net::BUNDLE.into(),
            listens_on: listens_on(),
            planned: Self::sound().allow,
            allow: self.allow.clone(),
            weakness: self.weakness,
        }
    }
}

/// How attempts find it.
pub(super) fn proxy() -> Proxy {
    Proxy { address: listens_on(), allowed: ALLOWED.into() }
}

fn listens_on() -> SocketAddr {
    SocketAddr::new(map::BUNDLE, PORT)
}
