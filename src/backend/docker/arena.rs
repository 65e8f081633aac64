//! A bottle under test on a private engine, and the lab around it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::helper::Process;
use claude_bottle_protocol::prober::{Batch, Fuse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::private::PrivateEngine;
use super::spec::{Joined, Spec};
use super::{DockerBottle, Engine, holes, launch};
use crate::backend::namespace::world::elsewhere::{Elsewhere, Place};
use crate::backend::namespace::world::inbound;
use crate::backend::{Arena, Backend, LaunchError};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::host::Endpoint;
use crate::lab::{
    Answers, Fixture, Inbound, LabError, Observation, Sites, StreamLines, View, Witness,
    batch_line, converse,
};
use crate::teardown::TeardownError;

/// The backend's name.
const NAME: &str = "docker";
/// The one subnet of a bottle that is alone on its engine: the attempts of two runs then read the same.
const POOL: &str = "10.210.0.0/28";
/// The address of the engine's default bridge.
const DEFAULT_BRIDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1));
/// How long the resolver on the host may take to listen.
const LISTENS: Duration = Duration::from_secs(10);

/// Bottles on Docker, each under test on a private engine of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Docker;

#[async_trait]
impl Backend for Docker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn breaches(&self) -> &'static [Breach] {
        holes::ALL
    }

    async fn launch(&self, breach: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
        Ok(Box::new(Box::pin(DockerArena::launch(breach)).await?))
    }
}

struct DockerArena {
    bottle: DockerBottle,
    lab: DockerLab,
    engine: Arc<PrivateEngine>,
    _resolver: UnixStream,
}

struct DockerLab {
    engine: Arc<PrivateEngine>,
    name: String,
    witness: Witness,
    sites: Sites,
    inodes: BTreeMap<String, u64>,
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    step: &str,
) -> impl FnOnce(E) -> LaunchError {
    let step = step.to_owned();
    move |source| LaunchError { backend: NAME, step, source: source.into() }
}

impl DockerArena {
    async fn launch(breach: Option<Breach>) -> Result<Self, LaunchError> {
        let world = Elsewhere::new();
        let engine = PrivateEngine::start(&world.surroundings(), Elsewhere::host()).await;
        let engine = Arc::new(engine.map_err(failed("the private engine does not start"))?);
        let resolver = engine.helper().start(Process::Forwarder(Elsewhere::resolver())).await;
        let mut resolver = resolver.map_err(failed("the host's resolver does not start"))?.stdio;
        let mut listens = [0];
        let listening = tokio::time::timeout(LISTENS, resolver.read_exact(&mut listens)).await;
        let listening = listening.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        listening.map_err(failed("the host's resolver does not listen"))?;
        let endpoint = Endpoint::Unix(engine.socket());
        let client = Engine::connect(&endpoint, engine.inside(Path::new("/proc"))).await;
        let client = client.map_err(failed("the private engine is not reached"))?;

        let mut spec = Spec::new(format!("bottle-{:08x}", rand::random::<u32>()));
        spec.pool = POOL.parse().expect("a network");
        if let Some(breach) = breach {
            holes::make(&mut spec, breach);
        }
        let launched = Box::pin(launch(&client, &spec, &|_| {})).await;
        let launched = launched.map_err(failed("the bottle does not start"))?;
        let beside = Self::beside(&engine, &world, &spec, &launched).await;
        let lab = match beside {
            Ok(lab) => lab,
            Err(error) => {
                // With the engine all of it goes.
                let _ = launched.bottle.teardown().await;
                let _ = engine.end().await;
                return Err(error);
            }
        };
        Ok(Self { bottle: launched.bottle, lab, engine, _resolver: resolver })
    }

    /// The witness in the bundle, and where everything is.
    async fn beside(
        engine: &Arc<PrivateEngine>,
        world: &Elsewhere,
        spec: &Spec,
        launched: &super::Launched,
    ) -> Result<DockerLab, LaunchError> {
        let world = world.with(&Place {
            bundle: launched.plan.bundle_address.into(),
            gateway: launched.plan.gateway.into(),
            default_bridge: DEFAULT_BRIDGE,
            egress_everywhere: spec.holes.egress_on_all_interfaces,
        });
        let pid = |pid: i64| u32::try_from(pid).unwrap_or_default();
        // Who shares its bundle's namespace is where its bundle is.
        let agent =
            if spec.holes.joined == Joined::Bundle { &launched.bundle } else { &launched.agent };
        let lab = world.beside(&spec.name, pid(agent.pid), pid(launched.bundle.pid));
        let extended = engine.extend(&lab).await;
        let (built, witness) = extended.map_err(failed("the lab does not stand"))?;
        let mut inodes = engine.built().inodes.clone();
        inodes.extend(built.inodes.clone());
        Ok(DockerLab {
            engine: Arc::clone(engine),
            name: spec.name.clone(),
            witness: Witness::together([engine.witness(), &witness]),
            sites: world.sites(engine.built(), &built),
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

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        let removed = self.bottle.teardown().await;
        let ended = self.engine.end().await;
        removed?;
        ended.map_err(|error| TeardownError(vec![("the private engine".into(), error.into())]))
    }
}

impl DockerLab {
    /// The net namespace that is called so in the plan.
    fn net(&self, place: &str) -> String {
        Elsewhere::named(place, &self.name)
    }

    fn fuse_at(&self, place: &str) -> Fuse {
        Fuse::Namespaces(self.inodes.get(&self.net(place)).copied().into_iter().collect())
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
        self.fuse_at("bottle")
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        let failed = |source| LabError::Control { place: place.to_owned(), source };
        let batch = Batch { fuse: self.fuse_at(place), ..batch.clone() };
        let prober = Process::Prober { net: self.net(place) };
        let prober = self.engine.helper().start(prober).await;
        let prober = prober.map_err(io::Error::other).map_err(failed)?;
        let (output, mut input) = prober.stdio.into_split();
        input.write_all(&batch_line(&batch)).await.map_err(failed)?;
        Ok(converse(&batch, &mut StreamLines::new(output), |_| {}).await)
    }

    async fn observe(&self, view: View) -> Result<Option<Observation>, LabError> {
        let place = match view {
            View::Bottle => "bottle",
            View::Host => "host",
            View::Bundle => "bundle",
        };
        let files = self.engine.helper().observe(&self.net(place)).await;
        let files = files.map_err(io::Error::other).map_err(LabError::Observe)?;
        Ok(Some(Observation::parse(&files)))
    }

    fn inbound(&self) -> Option<Inbound> {
        Some(inbound())
    }

    fn has_real_bridge(&self) -> bool {
        true
    }
}
