//! What is made for a lab on the machine's own engine, and removed with it.

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, VolumeCreateRequest};

use super::machine::{self, Machine};
use super::sites::{Around, BOTTLE, BUNDLE, HOST, NEIGHBOUR, PLACES, SEGMENT};
use crate::backend::docker::beside::undo_network;
use crate::backend::docker::error::call;
use crate::backend::docker::image::Image;
use crate::backend::docker::launch::{Container, Guard, Prepared, claim};
use crate::backend::docker::plan::Plan;
use crate::backend::docker::post::{self, Post, PostError, Seat};
use crate::backend::docker::spec::{Joined, Spec};
use crate::backend::docker::{DockerBottle, DockerError, Engine, Launched, made_of};
use crate::bottle::Bottle as _;
use crate::host::interface_with;
use crate::lab::{Sites, Witness};
use crate::teardown::{Teardown, TeardownError};

/// What is made for the lab alone. Dropped, it is removed by its labels.
pub(super) struct Made {
    engine: Engine,
    /// The containers; two of them are on networks, but not on the same one.
    posts: Teardown,
    /// The neighbour's network, and the folder.
    rest: Teardown,
    guard: Guard,
    /// The neighbour, on a network like the bottle's.
    pub(super) beside: Plan,
    /// Where the engine has the folder in which the run's own socket is.
    folder: String,
}

/// What stands around a bottle.
pub(super) struct Standing {
    pub(super) posts: BTreeMap<&'static str, Post>,
    pub(super) witness: Witness,
    pub(super) sites: Sites,
    pub(super) around: Around,
    pub(super) made_of: BTreeMap<String, String>,
}

impl Made {
    /// The neighbour's network, and the folder.
    pub(super) async fn rest(engine: &Engine, name: &str) -> Result<Self, DockerError> {
        let guard = Guard::new(engine, name);
        let image = Image::of_toolbox()?;
        let spec = Spec::new(name);
        let facts = engine.facts(&spec).await?;
        let (network, beside) = claim(engine, &spec, image.tag(), facts).await?;
        let mut rest = Teardown::new();
        undo_network(engine, &network, &mut rest);
        let volume = machine::volume(name);
        let made = engine.docker.create_volume(VolumeCreateRequest {
            name: Some(volume.clone()),
            labels: beside.network.labels.clone(),
            ..VolumeCreateRequest::default()
        });
        let folder = made.await.map(|made| made.mountpoint);
        let owned = engine.clone();
        rest.push_beside(format!("the volume {volume}"), move || async move {
            owned.remove_volume(&volume).await
        });
        let mut made = Self {
            engine: engine.clone(),
            posts: Teardown::new(),
            rest,
            guard,
            beside,
            folder: String::new(),
        };
        match folder {
            Ok(folder) => made.folder = folder,
            Err(error) => {
                let _ = made.end(None).await;
                return Err(call("create the volume of the run's own socket")(error));
            }
        }
        Ok(made)
    }

    /// Removes it, and the bottle with it, if there is one: first what is on the bottle's network. What the bottle may have been
    /// connected to, or have mounted, is removed as soon as it can be.
    pub(super) async fn end(&mut self, bottle: Option<&DockerBottle>) -> Result<(), TeardownError> {
        let posts = self.posts.run().await;
        let bottle = async {
            match bottle {
                Some(bottle) => bottle.teardown().await,
                None => Ok(()),
            }
        };
        let (bottle, rest) = tokio::join!(bottle, self.rest.run());
        let around = posts.and(rest);
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
        let body = body(plan, &self.beside, place, joined);
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
            Some(net) => Post::within(net).await,
            None => self.container(plan, place, Some(container)).await,
        }
    }

    /// A post at `place`, one that hangs on a bridge of the engine's: of a process of this machine, where the bridge is one of this
    /// machine's.
    async fn on_bridge(&self, plan: &Plan, place: &str) -> Result<Post, PostError> {
        let on = if place == SEGMENT { plan } else { &self.beside };
        let seat = Seat {
            address: if place == SEGMENT { on.address_beside() } else { on.agent_address },
            subnet: on.subnet,
            gateway: on.gateway,
        };
        match interface_with(on.gateway).filter(|_| self.engine.is_entered()) {
            Some(bridge) => Post::on_bridge(bridge, seat).await,
            None => self.container(plan, place, None).await,
        }
    }

    /// The post in the machine's own net namespace, and where it has the folder of the run's own socket. Whoever has the address of
    /// the bridge is the engine's host.
    async fn host(&self, plan: &Plan) -> Result<(Post, Machine), PostError> {
        let is_here = self.engine.is_entered() && interface_with(plan.gateway).is_some();
        let (post, folder) = if is_here {
            (Post::here().await?, self.folder.as_str())
        } else {
            (self.container(plan, HOST, None).await?, machine::FOLDER)
        };
        Ok((post, Machine::new(format!("{folder}/{}", machine::SOCKET))))
    }

    /// Launches the bottle, and puts what stands around it.
    pub(super) async fn stand(
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
        let early = async {
            tokio::try_join!(
                made.on_bridge(&plan, NEIGHBOUR),
                made.on_bridge(&plan, SEGMENT),
                made.host(&plan),
                async { Ok(made_of(&made.engine, &plan).await?) },
            )
        };
        let (launched, early) = tokio::join!(Box::pin(bottle.launch()), Box::pin(early));
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => return (Err(error), Err(PostError::Bottle)),
        };
        let standing = async {
            let (neighbour, segment, (host, machine), made_of) = early?;
            let in_bottle = async {
                match spec.holes.joined {
                    // Nobody looks around there, and nobody dials in.
                    Joined::Host => Ok(None),
                    // Who shares its bundle's namespace is where its bundle is.
                    Joined::Bundle => made.inside(&plan, BOTTLE, &launched.bundle).await.map(Some),
                    _ => made.inside(&plan, BOTTLE, &launched.agent).await.map(Some),
                }
            };
            let (bottle, bundle) =
                tokio::try_join!(in_bottle, made.inside(&plan, BUNDLE, &launched.bundle))?;
            let in_machine = bottle.is_none();
            let mut posts = BTreeMap::from([
                (BUNDLE, bundle),
                (SEGMENT, segment),
                (HOST, host),
                (NEIGHBOUR, neighbour),
            ]);
            posts.extend(bottle.map(|bottle| (BOTTLE, bottle)));
            let around = Around {
                subnet: plan.subnet,
                bundle: plan.bundle_address,
                gateway: plan.gateway,
                neighbours: made.beside.subnet,
                neighbour: made.beside.agent_address,
                neighbour_gateway: made.beside.gateway,
                egress_everywhere: spec.holes.egress_on_all_interfaces,
                machine,
                in_machine,
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

/// The container at `place`, which may join another one's net namespace, with what its place takes.
fn body(
    plan: &Plan,
    beside: &Plan,
    place: &str,
    joined: Option<&Container>,
) -> ContainerCreateBody {
    let capabilities: &[&str] = match place {
        // Frames and echoes are seen and sent by raw sockets, a packet filter is read by who may change it.
        BOTTLE => &["NET_RAW", "NET_ADMIN"],
        BUNDLE | SEGMENT => &["NET_RAW"],
        HOST => &["NET_BIND_SERVICE"],
        _ => &[],
    };
    let mode = match (place, joined) {
        (_, Some(container)) => return post::joined(beside, container, capabilities),
        (SEGMENT, None) => plan.name.clone(),
        (HOST, None) => "host".to_owned(),
        _ => beside.name.clone(),
    };
    let mut body = post::body(beside, mode, capabilities);
    if place == HOST {
        let folder = format!("{}:{}", machine::volume(&beside.name), machine::FOLDER);
        body.host_config.get_or_insert_default().binds = Some(vec![folder]);
    }
    body.networking_config = match place {
        SEGMENT => plan.seat_beside(),
        NEIGHBOUR => beside.agent.networking_config.clone(),
        _ => None,
    };
    body
}
