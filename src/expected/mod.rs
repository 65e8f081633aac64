//! What must come of every attempt, derived from the plan alone.
//!
//! A run tells what happened. This tells what must happen, by a small simulator that follows a packet through the
//! plan's net namespaces, links, addresses and routes to a listener and back. It knows neither what a probe expects nor
//! which breach was made, only the plan that the breach has changed: where the two differ, one of plan, simulator,
//! launcher, probe and judge is wrong.
//!
//! An attempt whose method the simulator does not know has no expectation, and what has none never agrees.

mod escape;
mod lookup;
mod methods;
mod monitor;
mod names;
mod network;
mod outside;
mod proxied;
mod raw;
mod table;
mod unix;
mod wires;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use claude_bottle_protocol::helper::{Bottle, Forwarder, Lab};

pub use self::monitor::{Made, Monitor};
pub use self::proxied::GatewayPlan;
pub use self::table::{Comparison, Row, Table};
use crate::lab::{Inbound, Sites};
use crate::probe::verdict::Verdict;

/// All that a backend plans, as data: every listener's port is known, or stands for one that is free.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Net namespaces, the links between them, and the listeners.
    pub lab: Lab,
    /// The bottle's walls.
    pub bottle: Bottle,
    /// How attempts find their way.
    pub sites: Sites,
    /// The listeners that the bottle may reach.
    pub allowed: BTreeSet<u32>,
    /// The real gateway, where one stands.
    pub gateway: Option<GatewayPlan>,
    /// Resolvers that hand on what they are asked.
    pub forwarders: Vec<Forwarder>,
    /// From where the outside dials into the bottle.
    pub inbound: Option<Inbound>,
    /// The net of the host whose listeners are looked at.
    pub host: String,
    /// The processes beside the bottle's that a bottle without a PID namespace of its own sees.
    pub processes: Vec<Process>,
    /// The ports that only stand for a free one.
    pub random_ports: BTreeSet<u16>,
    /// What packet filters drop.
    pub barriers: Vec<Barrier>,
    /// Monitors of virtual machines.
    pub monitors: Vec<Monitor>,
    /// Whether a container engine's own filter on system calls is on: of what attempts try it refuses new namespaces alone, and
    /// those to whoever lacks `CAP_SYS_ADMIN`.
    pub default_profile: bool,
}

/// A packet filter, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Barrier {
    /// Nothing leaves the net but what is for these addresses, or for its own loopback: neither frames nor what is sent to
    /// everybody.
    Leaving {
        /// The net.
        net: String,
        /// The addresses.
        to: Vec<IpAddr>,
    },
    /// The net forwards nothing in IPv4 that comes or goes by this interface, and does not say so.
    Through {
        /// The net.
        net: String,
        /// The interface.
        interface: String,
    },
}

/// A process of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The net that it is in.
    pub net: String,
    /// The nets that its UDP sockets are in.
    pub sockets: BTreeSet<String>,
    /// Whether it is there all the time, and not only while it happens to send a control.
    pub stays: bool,
}

/// A verdict without its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Something got out that must not.
    Leaked,
    /// Nothing got out.
    Contained,
    /// What must be reached was.
    Reached,
    /// What must be reached was not.
    Unreached,
    /// Nothing can be told.
    Inconclusive,
    /// Not tried.
    Skipped,
}

impl Kind {
    /// That of a verdict.
    pub fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Leaked { .. } => Self::Leaked,
            Verdict::Contained { .. } => Self::Contained,
            Verdict::Reached => Self::Reached,
            Verdict::Unreached { .. } => Self::Unreached,
            Verdict::Inconclusive { .. } => Self::Inconclusive,
            Verdict::Skipped { .. } => Self::Skipped,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Leaked => "leaked",
            Self::Contained => "contained",
            Self::Reached => "reached",
            Self::Unreached => "unreached",
            Self::Inconclusive => "inconclusive",
            Self::Skipped => "skipped",
        })
    }
}

/// What must come of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Any of these. Empty: the simulator does not know the method.
    pub kinds: Vec<Kind>,
    /// The way there, in words.
    pub why: String,
}

impl Expected {
    fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self { kinds: vec![kind], why: why.into() }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self { kinds: Vec::new(), why: why.into() }
    }

    fn or(mut self, kind: Kind, why: &str) -> Self {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
            self.why.push_str("; ");
            self.why.push_str(why);
        }
        self
    }

    /// Whether a verdict of this kind is what must come of it.
    pub fn agrees(&self, actual: Kind) -> bool {
        self.kinds.contains(&actual)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kinds.is_empty() {
            return f.pad("no expectation");
        }
        let kinds: Vec<_> = self.kinds.iter().map(ToString::to_string).collect();
        f.pad(&kinds.join(" or "))
    }
}
