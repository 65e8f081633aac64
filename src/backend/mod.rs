//! What makes bottles.

pub mod cleanup;
pub mod docker;
pub mod external;
pub mod namespace;
pub mod smolmachines;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::expected::Table;
use crate::host::{Host, Requirements};
use crate::lab::Fixture;
use crate::plan::{Outline, Plan};
use crate::probe::definition::Probe;
use crate::teardown::TeardownError;

/// The backends' names, in the order in which they are listed.
pub const NAMES: &[&str] = &["namespace", "docker", "smolmachines"];

/// A bottle under test and the lab around it.
///
/// Dropping it tears it down as well as that can be done without waiting; [`Arena::teardown`] waits, and tells.
#[async_trait]
pub trait Arena: Send + Sync {
    /// The bottle.
    fn bottle(&self) -> &dyn Bottle;

    /// The lab around it.
    fn lab(&self) -> &dyn Fixture;

    /// How a person gets into the bottle from outside while it is kept, as a clause.
    fn way_in(&self) -> String;

    /// What the bottle is made of, for reports that are kept: an engine and its version, images and their digests.
    fn made_of(&self) -> MadeOf {
        MadeOf::new()
    }

    /// What must come of each attempt of `probes`, from the plan as it was carried out: for a bottle whose addresses are not known
    /// before it is launched, see [`Backend::expected`].
    fn expected(&self, probes: &[Probe]) -> Option<Table> {
        let _ = probes;
        None
    }

    /// Ends the bottle, then the lab, and waits until they are gone.
    async fn teardown(self: Box<Self>) -> Result<(), TeardownError>;
}

/// What a bottle is made of: a program's name, and its version.
pub type MadeOf = BTreeMap<String, String>;

/// Takes what is told of a launch, a line each.
pub type Told = Arc<dyn Fn(&str) + Send + Sync>;

/// What makes bottles of one kind.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name, one of [`NAMES`].
    fn name(&self) -> &'static str;

    /// The backend whose definitions hold for its bottles: `[on.NAME]`, `only-on`.
    fn defined_as(&self) -> &'static str {
        self.name()
    }

    /// The breaches that it can make.
    fn breaches(&self) -> &'static [Breach];

    /// Why it does not make this breach, though it could, if so.
    fn refuses(&self, breach: Breach) -> Option<String> {
        let _ = breach;
        None
    }

    /// What must come of each attempt of `probes`, from the plan of the bottle alone; nothing is launched. None where the
    /// backend has no plan to derive it from, or has all of it once the bottle is launched: see [`Arena::expected`].
    fn expected(&self, breach: Option<Breach>, probes: &[Probe]) -> Option<Table> {
        let _ = (breach, probes);
        None
    }

    /// The probes that `breach` flips beside those that declare it, in a bottle made of this: by what its release leaves open
    /// and others do not.
    fn flips_also(&self, breach: Breach, made_of: &MadeOf) -> &'static [&'static str] {
        let _ = (breach, made_of);
        &[]
    }

    /// Launches a bottle and the lab around it; with `breach`, one that has that one hole.
    ///
    /// Whatever was made before a failure is undone.
    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError>;

    /// Has it tell each step of a launch, where a launch has steps that a person may want to know of.
    fn tell(&mut self, told: Told) {
        drop(told);
    }

    /// How it would carry out a plan; nothing is launched, and nobody asked. Else why it cannot.
    fn outline(&self, plan: &Plan) -> Result<Outline, String> {
        let _ = plan;
        Err(format!("{} starts no bottles for work", self.name()))
    }

    /// Launches a bottle for work, without a lab. Its teardown removes everything that was made for it.
    ///
    /// Whatever was made before a failure is undone.
    async fn start(&self, plan: &Plan) -> Result<Box<dyn Bottle>, LaunchError> {
        let _ = plan;
        let failed = LaunchError::at(self.name(), "nothing was tried");
        Err(failed("it makes bottles under test alone"))
    }
}

/// What is behind an error, of whatever kind.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A bottle could not be launched.
#[derive(Debug, Error)]
#[error("cannot launch a bottle on {backend}: {step}")]
pub struct LaunchError {
    /// The backend.
    pub backend: &'static str,
    /// The step that failed.
    pub step: String,
    /// Why.
    pub source: Cause,
}

impl LaunchError {
    /// What turns the cause into the error of a step on a backend.
    pub fn at<E: Into<Cause>>(
        backend: &'static str,
        step: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let step = step.into();
        move |source| Self { backend, step, source: source.into() }
    }
}

/// The backend with this name on this machine, if this build has it.
pub fn by_name(name: &str) -> Option<Box<dyn Backend>> {
    on(&Host::detect(), name)
}

/// The backend with this name as it is on `host`, if this build has it.
pub fn on(host: &Host, name: &str) -> Option<Box<dyn Backend>> {
    match name {
        "namespace" => Some(Box::new(namespace::Namespace::default())),
        "docker" => Some(Box::new(docker::Docker::on(host))),
        "smolmachines" => Some(Box::new(smolmachines::Smolmachines::on(host))),
        _ => None,
    }
}

/// Why the backend of this name cannot start bottles for work on `host`, if it cannot. They are made on this machine's own engine,
/// whatever those under test are made on.
pub fn lacking_to_start(host: &Host, name: &str) -> Option<String> {
    let unmet = Requirements::for_backend(name).reason(host);
    unmet.or_else(|| on(host, name).is_none().then(|| format!("this build has no {name} backend")))
}

/// Why the backend of this name cannot make bottles under test on `host`, if it cannot.
pub fn lacking(host: &Host, name: &str) -> Option<String> {
    if name == "docker" {
        return docker::Docker::on(host).lacking();
    }
    let unmet = Requirements::for_backend(name).reason(host);
    let machines = || smolmachines::Smolmachines::on(host).lacking();
    let unmet = unmet.or_else(|| (name == "smolmachines").then(machines).flatten());
    unmet.or_else(|| on(host, name).is_none().then(|| format!("this build has no {name} backend")))
}
