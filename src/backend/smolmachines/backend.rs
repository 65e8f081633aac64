//! The backend: bottles under test, and bottles for work.

use async_trait::async_trait;

use super::arena::MachineArena;
use super::smolvm::version::Version;
use super::{NAME, holes, work};
use crate::backend::{Arena, Backend, LaunchError, MadeOf};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::host::Host;
use crate::plan::{Outline, Plan};

/// As what smolvm is in what a bottle is made of.
pub(super) const SMOLVM: &str = "smolvm";

/// Bottles that are micro virtual machines: under test, each on the host of a private engine of its own; for work, with the smolvm and
/// the engine of this host.
#[derive(Debug, Clone)]
pub struct Smolmachines {
    host: Host,
}

impl Smolmachines {
    /// The backend as it is on `host`.
    pub fn on(host: &Host) -> Self {
        Self { host: host.clone() }
    }
}

#[async_trait]
impl Backend for Smolmachines {
    fn name(&self) -> &'static str {
        NAME
    }

    fn breaches(&self) -> &'static [Breach] {
        &holes::ALL
    }

    fn flips_also(&self, breach: Breach, made_of: &MadeOf) -> &'static [&'static str] {
        holes::flips_also(breach, release(made_of))
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        let launched = MachineArena::launch(breach, self.host.smolvm_loopback);
        Ok(Box::new(Box::pin(launched).await?))
    }

    fn outline(&self, plan: &Plan) -> Result<Outline, String> {
        work::outline(plan, self.host.smolvm_loopback)
    }

    async fn start(&self, plan: &Plan) -> Result<Box<dyn Bottle>, LaunchError> {
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
}
