//! A bottle of namespaces and the lab around it, launched and torn down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::helper::{Mount, Process, REAL};
use claude_bottle_protocol::prober::{Batch, Fuse};
use futures_util::future::join_all;
use tokio::net::UnixStream;

use super::fixture::answers;
use super::gateway::{self, Gateway};
use super::helper::{Helper, complaint};
use super::real::{RealLoopback, Share};
use super::world::{self, World, net};
use super::{Arena, LaunchError, failed};
use crate::bottle::session::Session;
use crate::bottle::{Bottle, BottleError, Command, Running};
use crate::breach::Breach;
use crate::lab::{Answers, Fixture, Inbound, LabError, Observation, Sites, View, Wiring, Witness};
use crate::teardown::{Teardown, TeardownError};

/// How long a bottle's session may take to greet. It takes a few milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A bottle under test on the embedded backend.
pub(super) struct NamespaceArena {
    bottle: NamespaceBottle,
    lab: NamespaceLab,
    teardown: Teardown,
    _share: Share,
}

struct NamespaceBottle {
    name: String,
    session: Session,
    helper: Arc<Helper>,
    id: u32,
}

struct NamespaceLab {
    helper: Arc<Helper>,
    witness: Witness,
    sites: Sites,
    wiring: Wiring,
    inodes: BTreeMap<String, u64>,
    bottle_net: String,
    /// The init's end of its standard input and output; it idles as long as they are open.
    _bundle: UnixStream,
    _forwarders: Vec<UnixStream>,
    _gateway: Option<Gateway>,
}

impl NamespaceArena {
    /// Launches a bottle and its lab.
    pub(super) async fn launch(
        mounts: &[Mount],
        breach: Option<Breach>,
    ) -> Result<Self, LaunchError> {
        let name = format!("bottle-{:08x}", rand::random::<u32>());
        let mut world = World::plan(&name, breach);
        // Beside what the breach mounts.
        world.bottle.mounts.extend_from_slice(mounts);
        let share = Share::take(world.bottle.net == REAL).await;
        let real = RealLoopback::open();
        let real = real.map_err(failed("the listeners on the real loopback cannot be opened"))?;
        let adopted = world.adopt(real);
        let not_ready = "the namespace helper does not start";
        let helper = Helper::launch().await.map_err(failed(not_ready))?;
        let helper = Arc::new(helper);
        let mut teardown = Teardown::new();
        let ending = Arc::clone(&helper);
        teardown.push("the namespaces", move || async move { ending.end().await });

        let init = Process::Init { net: net::BUNDLE.into(), env: bundle_environment() };
        let bottle = Process::Bottle(world.bottle.clone());
        let mut talk = helper.talk().await;
        let witness = talk.build(&world.lab, adopted).await;
        let bundle = talk.start(init).await;
        let started = talk.start(bottle).await;
        let gateway = match world.gateway() {
            Some((wanted, config)) => Some(gateway::ask(&mut talk, wanted, &config).await),
            None => None,
        };
        // Where it could not even be asked, what the helper has said before explains that.
        talk.ready().await.map_err(failed(not_ready))?;
        let no_lab = "the lab does not stand";
        let witness = witness.map_err(failed(no_lab))?;
        let built = talk.built().await.map_err(failed(no_lab))?;
        let (events, orders) = witness.stdio.into_split();
        let no_bundle = "the bundle does not start";
        let bundle = bundle.map_err(failed(no_bundle))?;
        talk.started().await.map_err(failed(no_bundle))?;
        let no_bottle = "the bottle does not start";
        let started = started.map_err(failed(no_bottle))?;
        talk.started().await.map_err(failed(no_bottle))?;
        let gateway = match gateway {
            Some(asked) => Some(gateway::listening(asked, &mut talk).await?),
            None => None,
        };
        drop(talk);
        let mut forwarders = Vec::new();
        for forwarder in &world.forwarders {
            let started = helper.forwarder(forwarder.clone()).await;
            forwarders.push(started.map_err(failed("the resolver does not start"))?);
        }
        let (output, input) = started.stdio.into_split();
        let said = complaint(started.stderr);
        let session = Session::open_or_told(output, input, HANDSHAKE, said).await;
        let session = session.map_err(failed("the bottle does not answer"))?;
        Ok(Self {
            bottle: NamespaceBottle { name, session, helper: Arc::clone(&helper), id: started.id },
            lab: NamespaceLab {
                witness: Witness::new(events, orders),
                sites: world.sites(&built),
                wiring: world.wiring(),
                inodes: built.inodes,
                bottle_net: world.bottle.net,
                helper,
                _bundle: bundle.stdio,
                _forwarders: forwarders,
                _gateway: gateway,
            },
            teardown,
            _share: share,
        })
    }
}

impl NamespaceLab {
    fn inode(&self, net: &str) -> Option<u64> {
        self.inodes.get(net).copied()
    }
}

/// In a bottle under test the witness stands in for the daemons, so the init has none to start.
fn bundle_environment() -> BTreeMap<String, String> {
    BTreeMap::from([("BOTTLE_DAEMONS".to_owned(), String::new())])
}

#[async_trait]
impl Arena for NamespaceArena {
    fn bottle(&self) -> &dyn Bottle {
        &self.bottle
    }

    fn lab(&self) -> &dyn Fixture {
        &self.lab
    }

    fn way_in(&self) -> String {
        self.lab.helper.way_in(self.lab.inode(&self.lab.bottle_net))
    }

    async fn teardown(mut self: Box<Self>) -> Result<(), TeardownError> {
        self.teardown.run().await
    }
}

#[async_trait]
impl Bottle for NamespaceBottle {
    fn name(&self) -> &str {
        &self.name
    }

    fn toolbox(&self) -> &str {
        self.session.toolbox()
    }

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        self.session.start(command)
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        let killed = self.helper.kill(self.id).await;
        killed.map_err(|error| TeardownError(vec![("the bottle".into(), error.into())]))
    }
}

#[async_trait]
impl Fixture for NamespaceLab {
    fn sites(&self) -> &Sites {
        &self.sites
    }

    fn witness(&self) -> &Witness {
        &self.witness
    }

    fn fuse(&self) -> Fuse {
        // Without a net namespace of its own the bottle may dial loopback and nothing else.
        Fuse::Namespaces(self.inode(&self.bottle_net).into_iter().collect())
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        self.helper.control(place, place, self.inode(place), batch).await
    }

    /// All are started before the first gets its batch, which would keep the processors from the other ones' start.
    async fn controls(&self, rounds: &[(String, Batch)]) -> Vec<Result<Answers, LabError>> {
        let places = rounds.iter().map(|(place, _)| Process::Prober { net: place.clone() });
        let probers = self.helper.start_all(places).await;
        let rounds = rounds.iter().zip(probers);
        let answers =
            rounds.map(|((place, batch), prober)| answers(place, self.inode(place), batch, prober));
        join_all(answers).await
    }

    async fn observe(&self, view: View) -> Result<Option<Observation>, LabError> {
        let net = match view {
            View::Bottle => self.bottle_net.as_str(),
            View::Host => net::HOST,
            View::Bundle => net::BUNDLE,
        };
        if net == REAL {
            return Ok(None);
        }
        self.helper.look(net).await.map(Some)
    }

    fn inbound(&self) -> Option<Inbound> {
        Some(world::inbound())
    }

    fn wiring(&self) -> Wiring {
        self.wiring.clone()
    }

    fn has_real_bridge(&self) -> bool {
        false
    }
}
