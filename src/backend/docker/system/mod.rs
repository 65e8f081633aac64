//! A bottle under test on the machine's own engine, and the little lab that can stand around it there.
//!
//! Nothing of the machine's network is ours but what this run makes: the bottle's network, a neighbour's, and the host's
//! addresses on these two. Witnesses are bound to those, and nothing else is dialled. All of it is done by asking the engine,
//! so it may be on another machine, and who asks may be an ordinary user.

pub(super) mod holes;
mod post;
mod sites;

use std::collections::BTreeMap;

use async_trait::async_trait;
use claude_bottle_protocol::prober::{Batch, Fuse};
use futures_util::future::join_all;

use self::post::{Post, PostError};
use self::sites::{Around, BOTTLE, BUNDLE, HOST, NEIGHBOUR, PLACES, SEGMENT};
use super::image::Image;
use super::launch::{Container, Guard, Prepared, claim, prepare};
use super::plan::{Plan, Step};
use super::spec::{Joined, Spec};
use super::{DockerBottle, DockerError, Engine, Launched, failed, made_of};
use crate::backend::{Arena, LaunchError};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::host::interface_addresses;
use crate::lab::{Answers, Fixture, Inbound, LabError, Observation, Sites, View, Wiring, Witness};
use crate::teardown::{Teardown, TeardownError};

/// A bottle, and what stands around it.
pub(super) struct SystemArena {
    bottle: DockerBottle,
    lab: SystemLab,
    made_of: BTreeMap<String, String>,
}

/// What is made for the lab alone. Dropped, it is removed by its labels.
struct Made {
    engine: Engine,
    /// The containers; two of them are on networks, but not on the same one.
    posts: Teardown,
    network: Teardown,
    guard: Guard,
    /// The neighbour, on a network like the bottle's.
    beside: Plan,
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
            tokio::join!(Made::network(engine, &neighbours), prepare(engine, &spec, done));
        let mut made = made.map_err(failed("the neighbour's network is not made"))?;
        let (bottle, standing) = match bottle {
            Ok(bottle) => Box::pin(made.stand(&spec, bottle)).await,
            Err(error) => (Err(error), Err(PostError::Bottle)),
        };
        match (bottle, standing) {
            (Ok(launched), Ok(Standing { posts, witness, sites, around, made_of })) => {
                let wiring = around.wiring(&launched.plan, &spec, &sites);
                let made = tokio::sync::Mutex::new(made);
                let lab = SystemLab { made, posts, witness, sites, around, wiring };
                Ok(Self { bottle: launched.bottle, lab, made_of })
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

/// What stands around a bottle.
struct Standing {
    posts: BTreeMap<&'static str, Post>,
    witness: Witness,
    sites: Sites,
    around: Around,
    made_of: BTreeMap<String, String>,
}

impl Made {
    /// The neighbour's network.
    async fn network(engine: &Engine, name: &str) -> Result<Self, DockerError> {
        let guard = Guard::new(engine, name);
        let image = Image::of_toolbox()?;
        let facts = engine.facts().await?;
        let (network, beside) = claim(engine, &Spec::new(name), image.tag(), facts).await?;
        let (mut undo, owned) = (Teardown::new(), engine.clone());
        undo.push(format!("the network {network}"), move || async move {
            owned.remove_network(&network).await
        });
        Ok(Self { engine: engine.clone(), posts: Teardown::new(), network: undo, guard, beside })
    }

    /// Removes it, and the bottle with it, if there is one: first what is on the bottle's network, at last what the bottle may
    /// have been connected to.
    async fn end(&mut self, bottle: Option<&DockerBottle>) -> Result<(), TeardownError> {
        let posts = self.posts.run().await;
        let bottle = match bottle {
            Some(bottle) => bottle.teardown().await,
            None => Ok(()),
        };
        let around = posts.and(self.network.run().await);
        if around.is_ok() {
            self.guard.disarm();
        }
        bottle.and(around)
    }

    /// A post at `place`, in a container of its own.
    async fn container(
        &self,
        plan: &Plan,
        place: &str,
        joined: Option<&Container>,
    ) -> Result<Post, PostError> {
        let body = post::body(plan, &self.beside, place, joined);
        Post::start(&self.engine, self.beside.container(place), body).await
    }

    /// A post at `place` in the net namespace of a container: of a process of this machine, where that can enter it.
    async fn inside(
        &self,
        plan: &Plan,
        place: &str,
        container: &Container,
    ) -> Result<Post, PostError> {
        match self.engine.entered(container) {
            Some(net) => Post::here(Some(net)).await,
            None => self.container(plan, place, Some(container)).await,
        }
    }

    /// Launches the bottle, and puts what stands around it.
    async fn stand(
        &mut self,
        spec: &Spec,
        bottle: Prepared<'_>,
    ) -> (Result<Launched, DockerError>, Result<Standing, PostError>) {
        // Each is known as soon as it is asked for, whatever becomes of the others.
        for place in PLACES {
            let (engine, name) = (self.engine.clone(), self.beside.container(place));
            self.posts.push_beside(format!("the container {name}"), move || async move {
                engine.remove_container(&name).await
            });
        }
        let (plan, made) = (bottle.plan.clone(), &*self);
        // Whoever has the address of the bridge is the engine's host.
        let host = async {
            if made.engine.is_entered() && interface_addresses().any(|own| own == plan.gateway) {
                Post::here(None).await
            } else {
                made.container(&plan, HOST, None).await
            }
        };
        let early = async {
            tokio::try_join!(made.container(&plan, NEIGHBOUR, None), host, async {
                Ok(made_of(&made.engine, &plan).await?)
            },)
        };
        let (launched, early) = tokio::join!(Box::pin(bottle.launch()), Box::pin(early));
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => return (Err(error), Err(PostError::Bottle)),
        };
        let standing = async {
            let (neighbour, host, made_of) = early?;
            // Who shares its bundle's namespace is where its bundle is.
            let shares = spec.holes.joined == Joined::Bundle;
            let agent = if shares { &launched.bundle } else { &launched.agent };
            let (bottle, bundle, segment) = tokio::try_join!(
                made.inside(&plan, BOTTLE, agent),
                made.inside(&plan, BUNDLE, &launched.bundle),
                made.container(&plan, SEGMENT, None),
            )?;
            let posts = BTreeMap::from([
                (BOTTLE, bottle),
                (BUNDLE, bundle),
                (SEGMENT, segment),
                (HOST, host),
                (NEIGHBOUR, neighbour),
            ]);
            let around = Around {
                subnet: plan.subnet,
                bundle: plan.bundle_address,
                gateway: plan.gateway,
                neighbours: made.beside.subnet,
                neighbour: made.beside.agent_address,
                neighbour_gateway: made.beside.gateway,
                egress_everywhere: spec.holes.egress_on_all_interfaces,
            };
            let (mut witnesses, mut sites) = (Vec::new(), around.nothing());
            for place in [BUNDLE, HOST, NEIGHBOUR] {
                let (witness, opened) = posts[place].witness(&around.wanted(place)).await?;
                around.stand(place, &opened, &mut sites);
                witnesses.push(witness);
            }
            let witness = Witness::together(&witnesses);
            Ok(Standing { posts, witness, sites, around, made_of })
        };
        let standing = Box::pin(standing).await;
        (Ok(launched), standing)
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

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        join_all(self.lab.posts.values().map(Post::end)).await;
        self.lab.made.into_inner().end(Some(&self.bottle)).await
    }
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
        Fuse::Namespaces(self.posts.get(BOTTLE).map(Post::namespace).into_iter().collect())
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        let post = self.post(place)?;
        let fuse = if place == HOST {
            self.around.fuse_on_host(batch)
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
            View::Bottle => BOTTLE,
            View::Bundle => BUNDLE,
            // What there is of it is the machine's own affair, and changes all the time.
            View::Host => return Ok(None),
        };
        let seen = self.post(place)?.look().await;
        seen.map(Some).map_err(|error| LabError::Observe(std::io::Error::other(error)))
    }

    fn inbound(&self) -> Option<Inbound> {
        Some(Inbound { control: BUNDLE.into(), from: vec![HOST.into(), NEIGHBOUR.into()] })
    }

    fn wiring(&self) -> Wiring {
        self.wiring.clone()
    }

    fn has_real_bridge(&self) -> bool {
        true
    }
}

/// What a failed step of the lab says.
impl From<DockerError> for PostError {
    fn from(error: DockerError) -> Self {
        Self::Engine(Box::new(error))
    }
}
