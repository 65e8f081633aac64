//! The small world around a bottle under test: sites, each with a witness, and the places that controls come from.

mod control;
pub(crate) mod here;
mod observation;
mod site;
mod wiring;
mod witness;

use std::collections::BTreeSet;
use std::net::IpAddr;

use async_trait::async_trait;
use claude_bottle_protocol::prober::{Batch, Fuse};
use futures_util::future::join_all;
use thiserror::Error;

pub use self::control::{Answers, Heard, LineSource, StreamLines, batch_line, converse};
pub use self::observation::{Observation, Socket};
pub use self::site::{Address, Listening, Proxy, Sites, Target, Unserved};
pub use self::wiring::{Place, Role, Wire, Wiring};
pub use self::witness::{Log, Witness, WitnessError};

/// A lab that stands around a bottle, as the run of probes sees it. Each backend has one.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The sites, and the listeners at each.
    fn sites(&self) -> &Sites;

    /// What saw whatever arrived.
    fn witness(&self) -> &Witness;

    /// What a prober in the bottle may dial.
    fn fuse(&self) -> Fuse;

    /// Runs `batch` from `place`, one of those that [`Listening::control`] names: the same prober, outside the bottle.
    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError>;

    /// As [`control`](Self::control), from several places at the same time. The answers are in their order.
    async fn controls(&self, rounds: &[(String, Batch)]) -> Vec<Result<Answers, LabError>> {
        join_all(rounds.iter().map(|(place, batch)| self.control(place, batch))).await
    }

    /// A network as it is now, read from outside; none where the backend has no way to look.
    async fn observe(&self, view: View) -> Result<Option<Observation>, LabError>;

    /// The places from which the outside dials into the bottle; none where it cannot.
    fn inbound(&self) -> Option<Inbound>;

    /// How bottle and lab are wired, for a drawing; nothing where the backend does not tell.
    fn wiring(&self) -> Wiring {
        Wiring::default()
    }

    /// Whether something on the bottle's way accepts connections for whomever they are meant, before anybody is reached. Then only
    /// an answer tells of reach.
    fn accepts_for_others(&self) -> bool {
        false
    }

    /// Addresses of sites that are gone since the lab was made, through no doing of the run: nothing can be said of what was tried
    /// there, unless it was seen.
    fn gone(&self) -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }

    /// How many times as long as in a bottle of this machine's own kernel everything may take.
    fn slowness(&self) -> u32 {
        1
    }

    /// Whether packets of the bottle cross a real bridge, where a rejection may take about a second.
    fn has_real_bridge(&self) -> bool;
}

/// Whose network is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// The bottle's.
    Bottle,
    /// The host's.
    Host,
    /// The bundle's.
    Bundle,
}

/// From where the outside dials into a bottle that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The place that must get in: the control. Where nobody outside must, it is the bottle itself.
    pub control: String,
    /// The places that must not.
    pub from: Vec<String>,
}

/// Why a lab cannot do its part.
#[derive(Debug, Error)]
pub enum LabError {
    /// A control's prober could not be run.
    #[error("cannot run a control from {place}")]
    Control {
        /// Where it should have run.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// The bottle's network could not be read from outside.
    #[error("cannot read the bottle's network from outside")]
    Observe(#[source] std::io::Error),
}
