//! A machine under test, on the host of a private engine's lab.
//!
//! The monitor opens a machine's connections from its own net namespace, the lab's host. So the lab is the same as around a
//! container of that engine, and nothing that is dialled gets out of it, however a machine was made.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::prober::{Batch, Fuse};
use tokio::net::UnixStream;

use super::backend::made_of;
use super::cache::Cache;
use super::in_lab::{InLab, LabGround};
use super::launch::{Ground as _, Launched, launch};
use super::machine::MachineBottle;
use super::smolvm::version::Version;
use super::under_test::{UnderTest, name, slowness, unenforced};
use super::{NAME, drawn, failed};
use crate::backend::docker::Engine;
use crate::backend::docker::private::PrivateEngine;
use crate::backend::namespace::world::elsewhere::{Elsewhere, Processes};
use crate::backend::{Arena, LaunchError, MadeOf};
use crate::bottle::{Bottle, Command};
use crate::breach::Breach;
use crate::expected::Table;
use crate::host::Endpoint;
use crate::lab::{
    Answers, Fixture, Inbound, LabError, Observation, Sites, StreamLines, View, Wiring, Witness,
    batch_line, converse,
};
use crate::probe::attempt::fresh_nonce;
use crate::probe::definition::Probe;
use crate::teardown::TeardownError;

/// How long a prober with nothing to do may take, in a machine that is emulated.
const IDLE: Duration = Duration::from_secs(60);

pub(super) struct MachineArena {
    bottle: MachineBottle,
    lab: MachineLab,
    engine: Arc<PrivateEngine>,
    under_test: UnderTest,
    smolvm: Version,
    made_of: MadeOf,
    _resolver: UnixStream,
}

struct MachineLab {
    engine: Arc<PrivateEngine>,
    name: String,
    witness: Witness,
    sites: Sites,
    wiring: Wiring,
    inodes: BTreeMap<String, u64>,
    /// The inode number of the net namespace that commands in the machine are in, as its own kernel counts.
    inside: u64,
    slowness: u32,
}

impl MachineArena {
    /// Sound, or with the hole that `breach` makes. `loopback`: whether the host's is opened to it all the same.
    pub(super) async fn launch(
        breach: Option<Breach>,
        loopback: bool,
    ) -> Result<Self, LaunchError> {
        let program = which::which("smolvm").map_err(failed("there is no smolvm on PATH"))?;
        let cache = Cache::of_user().map_err(failed("there is no cache"))?;
        let world = Elsewhere::new();
        let engine = PrivateEngine::start(&world.surroundings(), Elsewhere::host()).await;
        let engine = Arc::new(engine.map_err(failed("the private engine does not start"))?);
        let under_test = UnderTest::new(name(), breach, loopback);
        let launched = Self::on(&engine, &world, &program, &cache, under_test).await;
        if launched.is_err() {
            // With the engine all of it goes.
            let _ = engine.end().await;
        }
        launched
    }

    async fn on(
        engine: &Arc<PrivateEngine>,
        world: &Elsewhere,
        program: &Path,
        cache: &Cache,
        under_test: UnderTest,
    ) -> Result<Self, LaunchError> {
        let resolver = engine.helper().forwarder(Elsewhere::resolver()).await;
        let resolver = resolver.map_err(failed("the host's resolver does not start"))?;
        let endpoint = Endpoint::Unix(engine.socket());
        let client = Engine::connect(&endpoint, engine.inside(Path::new("/proc"))).await;
        let client = client.map_err(failed("the private engine is not reached"))?;
        let lab = InLab::new(engine, Elsewhere::host());
        let ground = LabGround::new(lab, program, client).await;
        let ground = ground.map_err(failed("smolvm does not run in the lab"))?;

        let launched =
            Box::pin(launch(&ground, cache, &under_test.spec, unenforced(), &|_| {})).await;
        let launched = launched.map_err(failed("the bottle does not start"))?;
        let smolvm = ground.tools().smolvm.version();
        let lab = Self::around(engine, world, &ground, &under_test, &launched).await?;
        // The monitor itself tries whether its host has IPv6, on the internet.
        lab.witness.forget_connections().await;
        let (made_of, bottle) = (made_of(&launched.plan, smolvm), launched.bottle);
        let engine = Arc::clone(engine);
        Ok(Self { bottle, lab, engine, under_test, smolvm, made_of, _resolver: resolver })
    }

    /// The witness in the bundle, where everything is, and what the prober may dial.
    async fn around(
        engine: &Arc<PrivateEngine>,
        world: &Elsewhere,
        ground: &LabGround,
        under_test: &UnderTest,
        launched: &Launched,
    ) -> Result<MachineLab, LaunchError> {
        // The fuse, from outside: whatever the machine dials leaves from the monitor's net namespace.
        let monitor = launched.monitor.filter(|pid| ground.lab.holds(*pid));
        let monitor = monitor.ok_or_else(|| {
            failed("the machine is not where it must be")(
                "its monitor is not in the net namespace of the lab's host, so nothing is dialled from it",
            )
        })?;
        let spec = &under_test.spec;
        let world = world.with(&under_test.place(&launched.bundle.plan));
        let bundle = u32::try_from(launched.bundle.container.pid).unwrap_or_default();
        let daemon = engine.pid_of_daemon().map_err(failed("the engine is not found"))?;
        // The monitor opens the machine's connections: where it is, is where the bottle's packets come from.
        let processes = Processes { bottle: monitor, bundle, other_bottle: None, engine: daemon };
        let lab = world.beside(&spec.name, processes);
        let extended = engine.extend(&lab).await;
        let (built, witness) = extended.map_err(failed("the lab does not stand"))?;
        let mut inodes = engine.built().inodes.clone();
        inodes.extend(built.inodes.clone());
        let inside = if spec.holes.noexec { 0 } else { inside(&launched.bottle).await? };
        Ok(MachineLab {
            engine: Arc::clone(engine),
            name: spec.name.clone(),
            witness: Witness::together([engine.witness(), &witness]),
            sites: world.sites(engine.built(), &built),
            wiring: drawn::wiring(
                &world,
                spec,
                &launched.bundle.plan,
                ground.tools().smolvm.version(),
            ),
            inodes,
            inside,
            slowness: slowness()?,
        })
    }
}

/// In which net namespace commands in the machine are, as a prober with nothing to do tells.
///
/// Another kernel counts there: the number alone would not keep a prober on this host from dialling. That none runs here is
/// known from outside, see above.
async fn inside(bottle: &MachineBottle) -> Result<u64, LaunchError> {
    let fuse = Fuse::Namespaces(Vec::new());
    let batch = Batch { token: fresh_nonce(), fuse, attempts: Vec::new() };
    let prober = Command::new(bottle.toolbox()).arg("prober").stdin(batch_line(&batch));
    let output = bottle.exec(prober.timeout(IDLE)).await;
    let output = output.map_err(failed("no prober runs in the machine"))?;
    let said = output.stdout.as_slice();
    let answers = converse(&batch, &mut StreamLines::new(said), |_| {}).await;
    answers.netns.ok_or_else(|| {
        let said = answers.trouble.unwrap_or_else(|| "it does not say".to_owned());
        failed("the prober in the machine does not know where it is")(said)
    })
}

#[async_trait]
impl Arena for MachineArena {
    fn bottle(&self) -> &dyn Bottle {
        &self.bottle
    }

    fn lab(&self) -> &dyn Fixture {
        &self.lab
    }

    fn way_in(&self) -> String {
        let name = self.bottle.name();
        format!("its monitor is below process {}; the machine is {name}", self.engine.pid())
    }

    fn made_of(&self) -> MadeOf {
        self.made_of.clone()
    }

    fn expected(&self, probes: &[Probe]) -> Option<Table> {
        Some(drawn::topology(&self.under_test, self.smolvm).table(probes, NAME))
    }

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        let removed = self.bottle.teardown().await;
        let ended = self.engine.end().await;
        removed?;
        ended.map_err(|error| TeardownError(vec![("the private engine".into(), error.into())]))
    }
}

impl MachineLab {
    /// The net namespace that is called so in the plan.
    fn net(&self, place: &str) -> String {
        Elsewhere::named(place, &self.name)
    }
}

#[async_trait]
impl Fixture for MachineLab {
    fn sites(&self) -> &Sites {
        &self.sites
    }

    fn witness(&self) -> &Witness {
        &self.witness
    }

    fn fuse(&self) -> Fuse {
        Fuse::Namespaces(vec![self.inside])
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        let net = self.net(place);
        let inode = self.inodes.get(&net).copied();
        self.engine.helper().control(place, &net, inode, batch).await
    }

    async fn observe(&self, view: View) -> Result<Option<Observation>, LabError> {
        let place = match view {
            // Another kernel's: nobody outside can look.
            View::Bottle => return Ok(None),
            View::Host => "host",
            View::Bundle => "bundle",
        };
        self.engine.helper().look(&self.net(place)).await.map(Some)
    }

    fn inbound(&self) -> Option<Inbound> {
        None
    }

    fn wiring(&self) -> Wiring {
        self.wiring.clone()
    }

    fn slowness(&self) -> u32 {
        self.slowness
    }

    /// The monitor does, for the addresses on the allow-list, and for 1.1.1.1:53.
    fn accepts_for_others(&self) -> bool {
        true
    }

    fn has_real_bridge(&self) -> bool {
        true
    }
}
