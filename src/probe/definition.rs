//! What a person writes in `probes/*.toml`, parsed and checked.
//!
//! TODO(definitions): the parser.

use std::collections::BTreeMap;
use std::path::PathBuf;

use claude_bottle_protocol::prober::How;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One property of a bottle, declared in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The file's stem: lower-case words joined by `-`.
    pub name: String,
    /// Where it was found; none for those built in.
    pub file: Option<PathBuf>,
    /// One line.
    pub title: String,
    /// Why the property matters.
    pub why: String,
    /// How bad a leak would be.
    pub severity: Severity,
    /// For selection: `slow`, `tcp`, `bundle`, …
    pub tags: Vec<String>,
    /// CVEs, RFCs, man pages, issues: URLs or short citations.
    pub references: Vec<String>,
    /// Breaches under which it must report a leak (or, for what must be reached, that it is not).
    pub proven_by: Vec<String>,
    /// Requirements besides those of the backend, such as `vsock-loopback`.
    pub needs: Vec<String>,
    /// What is different on a backend, by the backend's name.
    pub on: BTreeMap<String, On>,
    /// What is tried; never empty.
    pub attempts: Vec<AttemptDefinition>,
}

/// One try, after the lists of its definition have been multiplied out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptDefinition {
    /// By which means.
    pub method: Method,
    /// Where to; none for methods that go nowhere (`exec`).
    pub to: Option<To>,
    /// What must come of it.
    pub expect: Expect,
    /// How it must fail; empty: in any way.
    pub how: Vec<How>,
}

/// Where an attempt goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct To {
    /// The site, such as `bundle` or `host-loopback`.
    pub site: Site,
    /// A port's name at that site (`egress`, `gateway`, `discard`, `random`, or a decimal number as text).
    pub port: String,
    /// The address or name as the client writes it; none: each address that the site has.
    pub spelled: Option<String>,
}

/// By which means an attempt is made.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Connect over TCP, send the nonce, wait for its echo.
    Tcp,
    /// Send the nonce in a UDP datagram, wait for its echo.
    Udp,
    /// Run a command in the bottle that prints nonces on both streams and exits with a chosen code.
    Exec,
}

/// A place that a bottle might reach.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// The sidecar at its pinned address. Ports: `gateway` (8888), `egress` (9099, on the bundle's loopback).
    Bundle,
    /// The loopback of the lab's stand-in host. Ports: `discard` (9), `random`.
    HostLoopback,
    /// The loopback of the machine that the launcher runs on. Ports: `discard` (9, where it can be bound), `random`.
    RealLoopback,
}

/// What must come of an attempt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// Nothing arrives.
    Contained,
    /// It arrives and is answered.
    Reached,
    /// A known leak of somebody else's product: passes, shows amber, and fails the day it is gone.
    Leaks,
}

/// How bad a leak would be.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// A wall is thinner than planned.
    Medium,
    /// Something outside is reachable.
    High,
    /// The agent reaches the host, the internet or credentials.
    Critical,
}

/// What is different on one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    /// What must come of every attempt there instead.
    pub expect: Option<Expect>,
    /// Not run there at all.
    pub skip: bool,
    /// Why it is different.
    pub because: String,
    /// Where that is documented; required for [`Expect::Leaks`].
    pub reference: Option<String>,
}
