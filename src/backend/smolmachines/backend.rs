//! The backend: bottles under test, and bottles for work.

use async_trait::async_trait;

use super::arena::MachineArena;
use super::plan::{GATEWAY, Plan};
use super::smolvm::version::Version;
use super::system::SystemArena;
use super::{NAME, failed, holes, system, work};
use crate::backend::docker::Docker;
use crate::backend::{Arena, Backend, LaunchError, MadeOf};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::host::{EngineKind, Host, Lack};
use crate::plan::{Outline, Plan as WorkPlan};

/// As what smolvm is in what a bottle is made of.
const SMOLVM: &str = "smolvm";

/// As what the host's loopback is in what a bottle is made of, where the plan opens it to the machine.
const OPENED: &str = "host's loopback";

/// What a machine that was carried out as `plan` says is made of.
pub(super) fn made_of(plan: &Plan, release: Version) -> MadeOf {
    let mut made_of = MadeOf::from([(SMOLVM.to_owned(), release.to_string())]);
    if plan.opens_loopback() {
        made_of.insert(OPENED.to_owned(), format!("open to the machine, as {GATEWAY}"));
    }
    made_of
}

/// Bottles that are micro virtual machines: under test, each on the host of a private engine of its own, or with the smolvm and the
/// engine of this host; for work, always with those.
#[derive(Debug, Clone)]
pub struct Smolmachines {
    host: Host,
}

impl Smolmachines {
    /// The backend as it is on `host`.
    pub fn on(host: &Host) -> Self {
        Self { host: host.clone() }
    }

    /// Beside which engine machines under test are made: as for containers.
    fn kind(&self) -> Result<EngineKind, Lack> {
        Docker::on(&self.host).kind()
    }

    /// What keeps machines under test from being made on a host that has all that this backend needs, if anything does.
    pub fn lacking(&self) -> Option<String> {
        match self.kind() {
            Ok(EngineKind::Private) => self.host.lacks_private_engine(),
            // A word that is no kind of engine fails when it is taken at it.
            Ok(EngineKind::System) | Err(_) => None,
        }
    }
}

#[async_trait]
impl Backend for Smolmachines {
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

    fn flips_also(&self, breach: Breach, made_of: &MadeOf) -> &'static [&'static str] {
        holes::flips_also(breach, release(made_of), made_of.contains_key(OPENED))
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        let kind = self.kind().map_err(|lack| failed("no engine is meant")(lack.to_string()))?;
        match kind {
            EngineKind::Private => {
                let launched = MachineArena::launch(breach, self.host.smolvm_loopback);
                Ok(Box::new(Box::pin(launched).await?))
            }
            EngineKind::System => {
                Ok(Box::new(Box::pin(SystemArena::launch(&self.host, breach)).await?))
            }
        }
    }

    fn outline(&self, plan: &WorkPlan) -> Result<Outline, String> {
        work::outline(plan, self.host.smolvm_loopback)
    }

    async fn start(&self, plan: &WorkPlan) -> Result<Box<dyn Bottle>, LaunchError> {
        work::start(&self.host, plan).await
    }
}

/// The smolvm that a bottle was made with; where there was none yet, a release as it should be.
fn release(made_of: &MadeOf) -> Version {
    let version = made_of.get(SMOLVM).and_then(|version| format!("smolvm {version}").parse().ok());
    version.unwrap_or(Version::SEEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::smolmachines::plan::{Spec, Way};

    #[test]
    fn what_a_breach_flips_goes_by_the_release_that_the_bottle_was_made_with() {
        let flips = |breach, release: Option<&str>| {
            let made_of = release.map(|release| (SMOLVM.to_owned(), release.to_owned()));
            Smolmachines::on(&Host::bare()).flips_also(breach, &made_of.into_iter().collect())
        };
        assert_eq!(flips(Breach::PlainNet, Some("1.9.1")), ["loopback-reach"]);
        for as_it_should_be in [Some("1.32.2"), None] {
            assert_eq!(flips(Breach::PlainNet, as_it_should_be), [""; 0]);
        }
        assert_eq!(flips(Breach::UnrestrictedNet, Some("1.9.1")), [""; 0]);
    }

    #[test]
    fn where_loopback_is_open_to_every_machine_each_breach_flips_the_probe_of_it() {
        let spec = |loopback| {
            let mut spec = Spec { name: "b".into(), loopback, ..Spec::default() };
            spec.stand_ins.push(8887);
            spec
        };
        let flips = |breach, way| {
            let plan = Plan::new(&spec(true), way, Version::SEEN, false).unwrap();
            let made_of = made_of(&plan, Version::SEEN);
            Smolmachines::on(&Host::bare()).flips_also(breach, &made_of)
        };
        let loopback = Way::Loopback(49_153);
        assert_eq!(flips(Breach::WideCidr, loopback), ["loopback-reach"]);
        // It says so itself.
        assert_eq!(flips(Breach::GatewayAllowed, loopback), [""; 0]);
        let direct = Way::Direct(std::net::Ipv4Addr::new(10, 210, 0, 2));
        assert_eq!(flips(Breach::WideCidr, direct), [""; 0]);
    }
}
