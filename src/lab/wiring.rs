//! How bottle and lab were wired in one run, as a report draws it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::probe::definition::Site;

/// Places and the wires between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wiring {
    /// The places.
    pub places: Vec<Place>,
    /// The wires between them.
    pub wires: Vec<Wire>,
}

/// A network of its own: the bottle's, or one that it might reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Its name, unique among the places.
    pub name: String,
    /// What it is to the bottle.
    pub role: Role,
    /// Its addresses besides those of loopback, with their prefix lengths: `eth0 10.200.0.2/32`.
    pub addresses: Vec<String>,
    /// The sites whose witnesses stand here.
    pub sites: Vec<Site>,
}

/// What a place is to the bottle.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The bottle itself.
    Bottle,
    /// What is beside it.
    Bundle,
    /// The host, or what stands in for it.
    Host,
    /// Another bottle on the same host.
    Neighbour,
    /// Everything else.
    World,
    /// The machine that the launcher runs on, where a stand-in is the host.
    Machine,
}

/// A wire between two places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wire {
    /// The place at one end.
    pub from: String,
    /// The interface there.
    pub from_interface: String,
    /// The place at the other.
    pub to: String,
    /// The interface there.
    pub to_interface: String,
}
