//! A bottle under test on the machine's own engine, and the little lab that can stand around it there.
//!
//! Nothing of the machine is ours but what this run makes: the bottle's network, a neighbour's, the host's addresses on these
//! two, and listeners on its loopback. Witnesses are bound to those, and nothing else is dialled. All of it is done by asking the
//! engine, so it may be on another machine, and who asks may be an ordinary user.
//!
//! | file | what it knows |
//! |---|---|
//! | `holes` | which breaches are made there, and why not the others |
//! | `sites`, `machine` | where witnesses stand, and what is dialled |
//! | `drawn` | the same for the simulator |
//! | `made` | what is made, and removed |

mod drawn;
pub(super) mod holes;
mod machine;
mod made;
mod sites;

use std::collections::BTreeMap;

use async_trait::async_trait;
use claude_bottle_protocol::prober::{Batch, Fuse};
use futures_util::future::join_all;

use self::made::{Made, Standing};
use self::sites::{Around, BOTTLE, BUNDLE, HOST, NEIGHBOUR};
use super::launch::prepare;
use super::plan::Step;
use super::post::{Post, PostError};
use super::spec::Spec;
use super::{DockerBottle, Engine, failed};
use crate::backend::{Arena, LaunchError};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::expected::{Table, Topology};
use crate::lab::{Answers, Fixture, Inbound, LabError, Observation, Sites, View, Wiring, Witness};
use crate::probe::definition::Probe;
use crate::teardown::TeardownError;

/// A bottle, and what stands around it.
pub(super) struct SystemArena {
    bottle: DockerBottle,
    lab: SystemLab,
    topology: Topology,
    made_of: BTreeMap<String, String>,
}

struct SystemLab {
    made: tokio::sync::Mutex<Made>,
    posts: BTreeMap<&'static str, Post>,
    witness: Witness,
    sites: Sites,
    around: Around,
    wiring: Wiring,
}

impl SystemArena {
    pub(super) async fn launch(
        engine: &Engine,
        breach: Option<Breach>,
        done: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Self, LaunchError> {
        let mut spec = Spec::new(format!("bottle-{:08x}", rand::random::<u32>()));
        let neighbours = format!("{}-lab", spec.name);
        if let Some(breach) = breach {
            holes::make(&mut spec, breach, &neighbours);
        }
        let (made, bottle) =
            tokio::join!(Made::rest(engine, &neighbours), prepare(engine, &spec, done));
        let mut made = made.map_err(failed("the neighbour's network is not made"))?;
        let (bottle, standing) = match bottle {
            Ok(bottle) => Box::pin(made.stand(&spec, bottle)).await,
            Err(error) => (Err(error), Err(PostError::Bottle)),
        };
        match (bottle, standing) {
            (Ok(launched), Ok(Standing { posts, witness, sites, around, made_of })) => {
                let (plan, beside) = (&launched.plan, &made.beside);
                let wiring = drawn::wiring(plan, &spec, &around, &sites);
                let topology = drawn::topology(plan, beside, &spec, &around, &sites, inbound());
                let made = tokio::sync::Mutex::new(made);
                let lab = SystemLab { made, posts, witness, sites, around, wiring };
                Ok(Self { bottle: launched.bottle, lab, topology, made_of })
            }
            (Ok(launched), Err(error)) => {
                let _ = made.end(Some(&launched.bottle)).await;
                Err(failed("the lab does not stand")(error))
            }
            (Err(error), _) => {
                let _ = made.end(None).await;
                Err(failed("the bottle does not start")(error))
            }
        }
    }
}

#[async_trait]
impl Arena for SystemArena {
    fn bottle(&self) -> &dyn Bottle {
        &self.bottle
    }

    fn lab(&self) -> &dyn Fixture {
        &self.lab
    }

    fn way_in(&self) -> String {
        format!("its containers on DOCKER_HOST={}", self.bottle.engine().endpoint())
    }

    fn made_of(&self) -> BTreeMap<String, String> {
        self.made_of.clone()
    }

    fn expected(&self, probes: &[Probe]) -> Option<Table> {
        Some(self.topology.table(probes, super::NAME))
    }

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        join_all(self.lab.posts.values().map(Post::end)).await;
        self.lab.made.into_inner().end(Some(&self.bottle)).await
    }
}

/// From where the outside dials into the bottle.
fn inbound() -> Inbound {
    Inbound { control: BUNDLE.into(), from: vec![HOST.into(), NEIGHBOUR.into()] }
}

impl SystemLab {
    fn post(&self, place: &str) -> Result<&Post, LabError> {
        self.posts.get(place).ok_or_else(|| LabError::Control {
            place: place.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }
}

#[async_trait]
impl Fixture for SystemLab {
    fn sites(&self) -> &Sites {
        &self.sites
    }

    fn witness(&self) -> &Witness {
        &self.witness
    }

    fn fuse(&self) -> Fuse {
        if self.around.in_machine {
            return self.around.fuse_in_machine(&self.sites);
        }
        Fuse::Namespaces(self.posts.get(BOTTLE).map(Post::namespace).into_iter().collect())
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        let post = self.post(place)?;
        let fuse = if place == HOST {
            self.around.fuse_on_host(batch, &self.sites)
        } else {
            Fuse::Namespaces(vec![post.namespace()])
        };
        let answers = post.ask(&Batch { fuse, ..batch.clone() }).await;
        answers.map_err(|source| LabError::Control {
            place: place.to_owned(),
            source: std::io::Error::other(source),
        })
    }

    async fn observe(&self, view: View) -> Result<Option<Observation>, LabError> {
        let place = match view {
            View::Bottle if !self.around.in_machine => BOTTLE,
            View::Bundle => BUNDLE,
            // What there is of it is the machine's own affair, and changes all the time.
            View::Bottle | View::Host => return Ok(None),
        };
        let seen = self.post(place)?.look().await;
        seen.map(Some).map_err(|error| LabError::Observe(std::io::Error::other(error)))
    }

    fn inbound(&self) -> Option<Inbound> {
        Some(inbound())
    }

    fn wiring(&self) -> Wiring {
        self.wiring.clone()
    }

    fn has_real_bridge(&self) -> bool {
        true
    }
}
