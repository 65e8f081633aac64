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

use self::post::{Post, PostError};
use self::sites::{Around, BOTTLE, BUNDLE, HOST, NEIGHBOUR, SEGMENT};
use super::image::Image;
use super::launch::{Guard, claim};
use super::plan::{Plan, Step};
use super::spec::{Joined, Spec};
use super::{DockerBottle, DockerError, Engine, Launched, launch, made_of};
use crate::backend::{Arena, LaunchError};
use crate::bottle::Bottle;
use crate::breach::Breach;
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
    teardown: Teardown,
    guard: Guard,
}

struct SystemLab {
    made: tokio::sync::Mutex<Made>,
    posts: BTreeMap<&'static str, Post>,
    witness: Witness,
    sites: Sites,
    around: Around,
    wiring: Wiring,
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    step: &str,
) -> impl FnOnce(E) -> LaunchError {
    let step = step.to_owned();
    move |source| LaunchError { backend: super::NAME, step, source: source.into() }
}

impl SystemArena {
    pub(super) async fn launch(
        engine: &Engine,
        breach: Option<Breach>,
        done: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Self, LaunchError> {
        let mut spec = Spec::new(format!("bottle-{:08x}", rand::random::<u32>()));
        let around = Spec::new(format!("{}-lab", spec.name));
        let mut made = Made { teardown: Teardown::new(), guard: Guard::new(engine, &around.name) };
        let image = Image::new().map_err(failed("there is no toolbox"))?;
        let facts = engine.facts().await.map_err(failed("the engine does not answer"))?;
        let claimed = claim(engine, &around, image.tag(), facts).await;
        let (network, beside) = claimed.map_err(failed("the neighbour's network is not made"))?;
        made.undo_network(engine, &network);
        if let Some(breach) = breach {
            holes::make(&mut spec, breach, &network);
        }
        let launched = Box::pin(launch(engine, &spec, done)).await;
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => {
                let _ = made.teardown.run().await;
                return Err(failed("the bottle does not start")(error));
            }
        };
        match Box::pin(Self::around(engine, &spec, &launched, &beside, made)).await {
            Ok((lab, made_of)) => Ok(Self { bottle: launched.bottle, lab, made_of }),
            Err((mut made, error)) => {
                let _ = made.teardown.run().await;
                let _ = launched.bottle.teardown().await;
                Err(failed("the lab does not stand")(error))
            }
        }
    }

    /// What stands around a bottle.
    async fn around(
        engine: &Engine,
        spec: &Spec,
        launched: &Launched,
        beside: &Plan,
        mut made: Made,
    ) -> Result<(SystemLab, BTreeMap<String, String>), (Made, PostError)> {
        let around = Around {
            subnet: launched.plan.subnet,
            bundle: launched.plan.bundle_address,
            gateway: launched.plan.gateway,
            neighbours: beside.subnet,
            neighbour: beside.agent_address,
            neighbour_gateway: beside.gateway,
            egress_everywhere: spec.holes.egress_on_all_interfaces,
        };
        let posted = async {
            // Who shares its bundle's namespace is where its bundle is.
            let shares = spec.holes.joined == Joined::Bundle;
            let agent = if shares { &launched.bundle.id } else { &launched.agent.id };
            let body =
                |place| post::body(&launched.plan, beside, place, agent, &launched.bundle.id);
            // Each is known as soon as it is asked for, whatever becomes of the others.
            let names = [BOTTLE, BUNDLE, SEGMENT, HOST, NEIGHBOUR];
            for place in names {
                made.undo_container(engine, &beside.container(place));
            }
            let one = |place| Post::start(engine, beside.container(place), body(place));
            let (bottle, bundle, segment, host, neighbour) = tokio::try_join!(
                one(BOTTLE),
                one(BUNDLE),
                one(SEGMENT),
                one(HOST),
                one(NEIGHBOUR)
            )?;
            let posts: BTreeMap<_, _> =
                names.into_iter().zip([bottle, bundle, segment, host, neighbour]).collect();
            let (mut witnesses, mut sites) = (Vec::new(), around.nothing());
            for place in [BUNDLE, HOST, NEIGHBOUR] {
                let wanted = around.wanted(place);
                let (witness, opened) = posts[place].witness(&wanted).await?;
                around.stand(place, &opened, &mut sites);
                witnesses.push(witness);
            }
            let made_of = made_of(engine, &launched.plan).await?;
            Ok((posts, Witness::together(&witnesses), sites, made_of))
        };
        match Box::pin(posted).await {
            Ok((posts, witness, sites, made_of)) => {
                let wiring = around.wiring(&launched.plan, spec, &sites);
                let made = tokio::sync::Mutex::new(made);
                Ok((SystemLab { made, posts, witness, sites, around, wiring }, made_of))
            }
            Err(error) => Err((made, error)),
        }
    }
}

impl Made {
    fn undo_network(&mut self, engine: &Engine, id: &str) {
        let (engine, id) = (engine.clone(), id.to_owned());
        let what = format!("the network {id}");
        self.teardown.push(what, move || async move { engine.remove_network(&id).await });
    }

    fn undo_container(&mut self, engine: &Engine, name: &str) {
        let (engine, name) = (engine.clone(), name.to_owned());
        let what = format!("the container {name}");
        self.teardown.push(what, move || async move { engine.remove_container(&name).await });
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
        // The posts are on the bottle's network, so they go first.
        let around = {
            let mut made = self.lab.made.lock().await;
            let around = made.teardown.run().await;
            if around.is_ok() {
                made.guard.disarm();
            }
            around
        };
        self.bottle.teardown().await?;
        around
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
