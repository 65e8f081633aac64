//! A bottle under test on a private engine, and the lab around it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::models::{EndpointIpamConfig, EndpointSettings, NetworkConnectRequest};
use claude_bottle_protocol::prober::{Batch, Fuse};
use tokio::net::UnixStream;

use super::plan::Step;
use super::private::PrivateEngine;
use super::spec::Joined;
use super::under_test::{SHARED, UnderTest};
use super::{DockerBottle, Engine, Launched, drawn, failed, launch, made_of};
use crate::backend::namespace::world::elsewhere::{Elsewhere, Processes};
use crate::backend::{Arena, LaunchError};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::host::Endpoint;
use crate::lab::{Answers, Fixture, Inbound, LabError, Observation, Sites, View, Wiring, Witness};
use crate::teardown::TeardownError;

/// A bottle under test on a private engine.
pub(super) struct DockerArena {
    bottle: DockerBottle,
    other_bottle: DockerBottle,
    lab: DockerLab,
    engine: Arc<PrivateEngine>,
    made_of: BTreeMap<String, String>,
    _resolver: UnixStream,
}

struct DockerLab {
    engine: Arc<PrivateEngine>,
    name: String,
    witness: Witness,
    sites: Sites,
    wiring: Wiring,
    inodes: BTreeMap<String, u64>,
}

impl DockerArena {
    pub(super) async fn launch(
        breach: Option<Breach>,
        done: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Self, LaunchError> {
        let world = Elsewhere::new();
        let engine = PrivateEngine::start(&world.surroundings(), Elsewhere::host()).await;
        let engine = Arc::new(engine.map_err(failed("the private engine does not start"))?);
        let resolver = engine.helper().forwarder(Elsewhere::resolver()).await;
        let resolver = resolver.map_err(failed("the host's resolver does not start"))?;
        let endpoint = Endpoint::Unix(engine.socket());
        let client = Engine::connect(&endpoint, engine.inside(Path::new("/proc"))).await;
        let client = client.map_err(failed("the private engine is not reached"))?;

        let under_test = UnderTest::new(breach);
        let pair = Box::pin(Self::pair(&client, &under_test, done)).await;
        // With the engine all of it goes.
        let lab = match &pair {
            Ok((own, other)) => {
                let lab = Self::beside(&engine, &world, &under_test, own, other).await;
                let made_of = made_of(&client, &own.plan).await;
                let made_of = made_of.map_err(failed("the engine does not tell what it is"));
                lab.and_then(|lab| Ok((lab, made_of?)))
            }
            Err(_) => Err(failed("there is no bottle")("it does not start")),
        };
        match (pair, lab) {
            (Ok((own, other)), Ok((lab, made_of))) => {
                let (bottle, other_bottle) = (own.bottle, other.bottle);
                Ok(Self { bottle, other_bottle, lab, engine, made_of, _resolver: resolver })
            }
            (Ok(_), Err(error)) | (Err(error), _) => {
                let _ = engine.end().await;
                Err(error)
            }
        }
    }

    /// The bottle under test, and the other one.
    async fn pair(
        client: &Engine,
        under_test: &UnderTest,
        done: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<(Launched, Launched), LaunchError> {
        let pair = tokio::join!(
            Box::pin(launch(client, &under_test.bottle, done)),
            Box::pin(launch(client, &under_test.other_bottle, &|_| {})),
        );
        let own = pair.0.map_err(failed("the bottle does not start"))?;
        let other = pair.1.map_err(failed("the other bottle does not start"))?;
        if under_test.shared_network {
            let address = EndpointIpamConfig {
                ipv4_address: Some(SHARED.to_string()),
                ..EndpointIpamConfig::default()
            };
            let request = NetworkConnectRequest {
                container: other.agent.id.clone(),
                endpoint_config: Some(EndpointSettings {
                    ipam_config: Some(address),
                    ..EndpointSettings::default()
                }),
            };
            let connected = client.docker().connect_network(&own.network, request).await;
            connected.map_err(failed("the other bottle is not connected"))?;
        }
        Ok((own, other))
    }

    /// The witness in the bundle, and where everything is.
    async fn beside(
        engine: &Arc<PrivateEngine>,
        world: &Elsewhere,
        under_test: &UnderTest,
        launched: &Launched,
        other: &Launched,
    ) -> Result<DockerLab, LaunchError> {
        let spec = &under_test.bottle;
        let world = world.with(&under_test.place(&launched.plan, &other.plan));
        let pid = |pid: i64| u32::try_from(pid).unwrap_or_default();
        // Who shares its bundle's namespace is where its bundle is.
        let agent =
            if spec.holes.joined == Joined::Bundle { &launched.bundle } else { &launched.agent };
        let daemon = engine.pid_of_daemon().map_err(failed("the engine is not found"))?;
        let processes = Processes {
            bottle: pid(agent.pid),
            bundle: pid(launched.bundle.pid),
            other_bottle: Some(pid(other.agent.pid)),
            engine: daemon,
        };
        let lab = world.beside(&spec.name, processes);
        let extended = engine.extend(&lab).await;
        let (built, witness) = extended.map_err(failed("the lab does not stand"))?;
        let mut inodes = engine.built().inodes.clone();
        inodes.extend(built.inodes.clone());
        Ok(DockerLab {
            engine: Arc::clone(engine),
            name: spec.name.clone(),
            witness: Witness::together([engine.witness(), &witness]),
            sites: world.sites(engine.built(), &built),
            wiring: drawn::wiring(&world, under_test, &launched.plan, &other.plan),
            inodes,
        })
    }
}

#[async_trait]
impl Arena for DockerArena {
    fn bottle(&self) -> &dyn Bottle {
        &self.bottle
    }

    fn lab(&self) -> &dyn Fixture {
        &self.lab
    }

    fn way_in(&self) -> String {
        let socket = self.engine.socket();
        format!("its engine listens on DOCKER_HOST=unix://{}", socket.display())
    }

    fn made_of(&self) -> BTreeMap<String, String> {
        self.made_of.clone()
    }

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        let (removed, other) = tokio::join!(self.bottle.teardown(), self.other_bottle.teardown());
        let ended = self.engine.end().await;
        removed.and(other)?;
        ended.map_err(|error| TeardownError(vec![("the private engine".into(), error.into())]))
    }
}

impl DockerLab {
    /// The net namespace that is called so in the plan.
    fn net(&self, place: &str) -> String {
        Elsewhere::named(place, &self.name)
    }

    fn inode(&self, net: &str) -> Option<u64> {
        self.inodes.get(net).copied()
    }
}

#[async_trait]
impl Fixture for DockerLab {
    fn sites(&self) -> &Sites {
        &self.sites
    }

    fn witness(&self) -> &Witness {
        &self.witness
    }

    fn fuse(&self) -> Fuse {
        Fuse::Namespaces(self.inode(&self.net("bottle")).into_iter().collect())
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        let net = self.net(place);
        self.engine.helper().control(place, &net, self.inode(&net), batch).await
    }

    async fn observe(&self, view: View) -> Result<Option<Observation>, LabError> {
        let place = match view {
            View::Bottle => "bottle",
            View::Host => "host",
            View::Bundle => "bundle",
        };
        self.engine.helper().look(&self.net(place)).await.map(Some)
    }

    fn inbound(&self) -> Option<Inbound> {
        Some(Elsewhere::inbound())
    }

    fn wiring(&self) -> Wiring {
        self.wiring.clone()
    }

    fn has_real_bridge(&self) -> bool {
        true
    }
}
