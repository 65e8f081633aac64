//! Bottles on a Docker engine: an agent and its bundle in containers, the agent's routes pinned to the bundle.
//!
//! An internal network alone is not enough: up to Engine 27 its containers reach the host by the bridge's own address,
//! and 127.0.0.11 hands on what it is asked. So the agent's net namespace keeps one route, and the bundle is its resolver.
//!
//! | file | what it knows |
//! |---|---|
//! | `spec` | what is wanted, deliberate holes included |
//! | `plan` | every request of a launch, as data |
//! | `way_out`, `daemons` | the bundle's second network and who serves there; whether the daemons are up |
//! | `engine`, `attached`, `image` | what an engine is asked |
//! | `launch`, `pinning`, `bottle` | carrying a plan out, and the handle |
//! | `work` | a bottle for work: an agent of a manifest as it is wanted here |
//! | `under_test`, `holes` | what a bottle under test is to be like, sound or breached |
//! | `drawn` | what an engine makes of a plan, for the simulator |
//! | `arena`, `system` | the lab around it: a whole world on a private engine, little on the machine's own |
//! | `post` | who does the lab's work at a place on an engine |
//! | `beside` | the network and the bundle alone, for a bottle that is no container |
//! | `owner`, `cleanup` | who launched what, and what nobody owns any more |

mod arena;
pub mod attached;
pub mod beside;
mod bottle;
pub mod cleanup;
pub(in crate::backend) mod daemons;
pub(in crate::backend) mod drawn;
pub mod engine;
pub mod error;
mod holes;
pub mod image;
pub mod launch;
mod made_of;
mod memory;
pub mod owner;
mod pinning;
pub mod plan;
pub(in crate::backend) mod post;
pub mod private;
pub mod spec;
mod system;
pub(in crate::backend) mod under_test;
pub mod way_out;
pub(in crate::backend) mod work;

use std::fmt;
use std::time::Instant;

use async_trait::async_trait;

use self::arena::DockerArena;
pub use self::bottle::DockerBottle;
pub use self::engine::Engine;
pub use self::error::DockerError;
pub use self::launch::{Launched, launch};
pub(in crate::backend) use self::made_of::made_of;
use self::plan::Step;
pub use self::spec::Spec;
use self::system::SystemArena;
use crate::backend::{Arena, Backend, Cause, LaunchError, Told};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::expected::Table;
use crate::host::{EngineKind, Host, Lack, Requirement, Requirements};
use crate::plan::{Outline, Plan as WorkPlan};
use crate::probe::definition::Probe;

/// The backend's name.
const NAME: &str = "docker";

/// What turns the cause into the error of a step of a launch.
fn failed<E: Into<Cause>>(step: &str) -> impl FnOnce(E) -> LaunchError {
    LaunchError::at(NAME, step)
}

/// Bottles on Docker: under test on a private engine of their own, or on the machine's.
#[derive(Clone)]
pub struct Docker {
    host: Host,
    told: Option<Told>,
}

impl Docker {
    /// The backend as it is on `host`.
    pub fn on(host: &Host) -> Self {
        Self { host: host.clone(), told: None }
    }

    /// On which engine bottles under test are made: where nobody has said so, on a private one if that can be had.
    pub fn kind(&self) -> Result<EngineKind, Lack> {
        let default = || match &self.host.private_engine {
            Ok(_) => EngineKind::Private,
            Err(_) => EngineKind::System,
        };
        Ok(self.host.engine.clone()?.unwrap_or_else(default))
    }

    /// What keeps bottles under test from being made, if anything does. A word that is no kind of engine does not: it fails
    /// when it is taken at it.
    pub fn lacking(&self) -> Option<String> {
        let gitea = Requirements::from_iter([Requirement::NotGitea]).reason(&self.host);
        let engine = || match (self.kind(), &self.host.engine) {
            (Err(_), _) => None,
            (Ok(EngineKind::Private), _) => self.host.lacks_private_engine(),
            (Ok(EngineKind::System), Ok(Some(_))) => self.no_system(),
            (Ok(EngineKind::System), _) => {
                let system = [self.no_system()?];
                let all = system.into_iter().chain(self.host.lacks_private_engine());
                Some(all.collect::<Vec<_>>().join("; "))
            }
        };
        gitea.or_else(engine)
    }

    /// Tells each step of the launch that begins now, with the time since.
    fn telling(&self) -> impl Fn(Step) + Send + Sync + use<> {
        let (begun, told) = (Instant::now(), self.told.clone());
        move |step| {
            if let Some(told) = &told {
                told(&format!("{:>6} ms  {step}", begun.elapsed().as_millis()));
            }
        }
    }

    fn no_system(&self) -> Option<String> {
        Requirements::from_iter([Requirement::Docker]).reason(&self.host)
    }
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker").field("host", &self.host).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for Docker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn breaches(&self) -> &'static [Breach] {
        match self.kind() {
            Ok(EngineKind::System) => system::holes::ALL,
            Ok(EngineKind::Private) | Err(_) => &holes::ALL,
        }
    }

    fn refuses(&self, breach: Breach) -> Option<String> {
        match self.kind() {
            Ok(EngineKind::System) => system::holes::refused(breach),
            Ok(EngineKind::Private) | Err(_) => None,
        }
    }

    fn tell(&mut self, told: Told) {
        self.told = Some(told);
    }

    fn expected(&self, breach: Option<Breach>, probes: &[Probe]) -> Option<Table> {
        match self.kind() {
            Ok(EngineKind::Private) => Some(drawn::topology(breach).table(probes, NAME)),
            Ok(EngineKind::System) | Err(_) => None,
        }
    }

    fn outline(&self, plan: &WorkPlan) -> Result<Outline, String> {
        work::outline(plan)
    }

    async fn start(&self, plan: &WorkPlan) -> Result<Box<dyn Bottle>, LaunchError> {
        work::start(&self.host, plan, &self.telling()).await
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        let kind = self.kind().map_err(|lack| failed("no engine is meant")(lack.to_string()))?;
        match kind {
            EngineKind::Private => {
                Ok(Box::new(Box::pin(DockerArena::launch(breach, &self.telling())).await?))
            }
            EngineKind::System => {
                let engine = Engine::of_host(&self.host).await;
                let engine = engine.map_err(failed("this machine's engine is not reached"))?;
                Ok(Box::new(Box::pin(SystemArena::launch(&engine, breach, &self.telling())).await?))
            }
        }
    }
}
