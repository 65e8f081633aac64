//! What the judge says.

use std::net::SocketAddr;
use std::time::Duration;

use claude_bottle_protocol::prober::How;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::text::Untrusted;

/// The outcome of one attempt, or of a whole probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// What must be reached was reached.
    Reached,
    /// Nothing got out, and a control shows that it would have been seen.
    Contained {
        /// How the attempt failed, as its client saw it.
        #[schemars(with = "String")]
        how: How,
    },
    /// What must be reached was not, although it was there.
    Unreached {
        /// What was missing.
        why: String,
    },
    /// It cannot be told. Never green.
    Inconclusive {
        /// What is missing for a verdict.
        why: String,
    },
    /// Something got out.
    Leaked {
        /// What the outside saw.
        evidence: Evidence,
    },
    /// Not tried here.
    Skipped {
        /// The requirement that is not met.
        why: String,
    },
}

/// What the outside saw of a leak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The witness that saw it, such as `host-loopback tcp/9 at 0.0.0.0:9`; or the observation, such as
    /// `the bottle's routes`.
    pub witness: String,
    /// From where it came, as the witness saw it.
    #[schemars(with = "Option<String>")]
    pub peer: Option<SocketAddr>,
    /// What it saw: the nonce, or the state that differs from the plan.
    pub saw: String,
    /// When, since the lab was up.
    #[serde(rename = "at_us", with = "crate::report::micros")]
    #[schemars(with = "u64")]
    pub at: Duration,
}

impl Verdict {
    /// How bad it is; a probe takes the worst of its attempts:
    /// Leaked > Inconclusive > Unreached > Contained > Reached > Skipped.
    pub fn badness(&self) -> u8 {
        match self {
            Self::Skipped { .. } => 0,
            Self::Reached => 1,
            Self::Contained { .. } => 2,
            Self::Unreached { .. } => 3,
            Self::Inconclusive { .. } => 4,
            Self::Leaked { .. } => 5,
        }
    }

    /// One word for tables: `contained`, `LEAKED`, …
    pub fn word(&self) -> &'static str {
        match self {
            Self::Skipped { .. } => "skipped",
            Self::Reached => "reached",
            Self::Contained { .. } => "contained",
            Self::Unreached { .. } => "UNREACHED",
            Self::Inconclusive { .. } => "INCONCLUSIVE",
            Self::Leaked { .. } => "LEAKED",
        }
    }
}

/// What a prober said, kept as annotation. Its free text is hostile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    /// How the attempt ended, as its client saw it.
    #[schemars(with = "String")]
    pub how: How,
    /// The errno behind it.
    pub errno: Option<i32>,
    /// Anything else it said.
    #[schemars(with = "Option<String>")]
    pub detail: Option<Untrusted>,
    /// How long it says that it took.
    #[serde(rename = "took_us", with = "crate::report::micros")]
    #[schemars(with = "u64")]
    pub took: Duration,
}
