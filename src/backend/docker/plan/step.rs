//! The steps of a launch, in stages.

use std::fmt;

use serde::Serialize;

use super::{Facts, awaited};
use crate::backend::docker::spec::Spec;

/// One step of a launch. Those of one stage are made side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The toolbox's image is there.
    Image,
    /// The bottle's network.
    Network,
    /// The network that leads out, for the bundle alone.
    WayOut,
    /// The volume of the agent's home.
    Home,
    /// The volume that the toolbox comes in on.
    Toolbox,
    /// The bundle's container.
    Bundle,
    /// The agent's container.
    Agent,
    /// The container that pins the agent's routes.
    Pinner,
    /// The bundle runs.
    BundleRuns,
    /// The agent runs.
    AgentRuns,
    /// Routes and packet filter are in place, and the pinner is gone, if there was one.
    Pinned,
    /// The bundle's daemons are up.
    DaemonsRun,
    /// The agent is on a second network.
    SecondNetwork,
    /// The session has greeted.
    Greeted,
}

/// What has been done, for a person.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "the toolbox's image is there",
            Self::Network => "the network is made",
            Self::WayOut => "the bundle's way out is made",
            Self::Home => "the agent's home is made",
            Self::Toolbox => "the toolbox's volume is made",
            Self::Bundle => "the bundle is made",
            Self::Agent => "the agent is made",
            Self::Pinner => "the container that pins is made",
            Self::BundleRuns => "the bundle runs",
            Self::AgentRuns => "the agent runs",
            Self::Pinned => "routes and packet filter are pinned",
            Self::DaemonsRun => "the bundle's daemons run",
            Self::SecondNetwork => "the agent is on a second network",
            Self::Greeted => "the agent answers",
        })
    }
}

/// The steps that launch this, in order.
pub(super) fn stages(spec: &Spec, facts: &Facts) -> Vec<Vec<Step>> {
    let mut first = vec![Step::Image, Step::Network];
    if spec.bundle.serves.is_some() {
        first.push(Step::WayOut);
    }
    first.push(Step::Home);
    if spec.has_toolbox_volume() {
        first.push(Step::Toolbox);
    }
    let mut stages = vec![first, vec![Step::Bundle, Step::Agent]];
    if (spec.holes.pinned() && !facts.entered) || spec.has_toolbox_volume() {
        stages.push(vec![Step::Pinner]);
    }
    stages.push(vec![Step::BundleRuns, Step::AgentRuns]);
    if spec.holes.pinned() {
        stages.push(vec![Step::Pinned]);
    }
    if awaited(spec).is_some() {
        stages.push(vec![Step::DaemonsRun]);
    }
    if spec.holes.second_network.is_some() {
        stages.push(vec![Step::SecondNetwork]);
    }
    stages.push(vec![Step::Greeted]);
    stages
}
