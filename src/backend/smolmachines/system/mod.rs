//! A machine under test beside this machine's own smolvm and engine, and the little lab that can stand around it there.
//!
//! The monitor is a process of this machine's, and opens the bottle's connections from here. Witnesses are on this machine's own
//! addresses, its loopback among them, and in the bundle; nothing else is dialled, whatever a breach opens. No part of it takes
//! more than smolvm, an engine and this process, so that it is what a Mac has.
//!
//! | file | what it knows |
//! |---|---|
//! | `holes` | which breaches are made there, and why not the others |
//! | `sites` | where witnesses stand, and what is dialled |
//! | `drawn` | the same for the simulator and for reports |

mod drawn;
pub(super) mod holes;
mod sites;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use claude_bottle_protocol::prober::{Batch, Fuse};
use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard};

use self::drawn::Stage;
use self::sites::{Around, BUNDLE, HOST};
use super::backend::made_of;
use super::cache::Cache;
use super::launch::{Ground as _, Launched, launch};
use super::machine::MachineBottle;
use super::on_host::OnHost;
use super::plan::Spec;
use super::under_test::{SIZE, name, slowness, unenforced};
use super::{NAME, failed};
use crate::backend::docker::post::{Post, PostError};
use crate::backend::docker::{self, DockerError, Engine};
use crate::backend::namespace::world::ports;
use crate::backend::{Arena, LaunchError, MadeOf};
use crate::bottle::Bottle;
use crate::breach::Breach;
use crate::expected::{Table, Topology};
use crate::host::Host;
use crate::lab::{
    Answers, Fixture, Inbound, LabError, Observation, Sites, View, Wiring, Witness, here,
};
use crate::probe::attempt;
use crate::probe::definition::Probe;
use crate::teardown::TeardownError;

/// A machine, and what stands around it.
pub(super) struct SystemArena {
    bottle: MachineBottle,
    lab: SystemLab,
    topology: Topology,
    made_of: MadeOf,
    /// Held to the end: two at a time could not both have the ports that are known by their numbers.
    _alone: OwnedMutexGuard<()>,
}

/// Whoever has it is the one that this process has on this machine.
static ALONE: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

struct SystemLab {
    /// In the bundle's net namespace.
    post: Post,
    witness: Witness,
    sites: Sites,
    wiring: Wiring,
    slowness: u32,
}

/// What is wanted of smolvm, sound or with the hole that `breach` makes. `loopback`: whether somebody has said that this machine's may
/// be opened to it. `own`: this machine's other addresses.
fn spec(name: String, breach: Option<Breach>, loopback: bool, own: &[IpAddr]) -> Spec {
    let stand_ins = vec![ports::GATEWAY];
    let mut spec = Spec { name, size: SIZE, stand_ins, loopback, ..Spec::default() };
    if let Some(breach) = breach {
        holes::make(&mut spec, breach, own);
    }
    spec
}

impl SystemArena {
    /// With the smolvm and the engine of `host`.
    pub(super) async fn launch(host: &Host, breach: Option<Breach>) -> Result<Self, LaunchError> {
        let program = match &host.smolvm {
            Ok(smolvm) => &smolvm.path,
            Err(lack) => return Err(failed("there is no smolvm")(lack.to_string())),
        };
        let slowness = slowness()?;
        let alone = Arc::clone(&ALONE).lock_owned().await;
        let cache = Cache::of_user().map_err(failed("there is no cache"))?;
        let engine = Engine::of_host(host).await;
        let engine = engine.map_err(failed("this machine's engine is not reached"))?;
        let ground = OnHost::new(program, engine.clone()).await;
        let ground = ground.map_err(failed("smolvm does not run"))?;
        let spec = spec(name(), breach, host.smolvm_loopback, &own_addresses(None));
        let launched = Box::pin(launch(&ground, &cache, &spec, unenforced(), &|_| {})).await;
        let launched = launched.map_err(failed("the bottle does not start"))?;
        let release = ground.tools().smolvm.version();
        let bundle = &launched.bundle.plan;
        let way = launched.plan.way;
        let around = Around::new(
            bundle.bundle_address,
            launched.bundle.published.clone(),
            spec.holes.egress_on_all_interfaces,
            own_addresses(Some(bundle.gateway)),
        );
        let standing = Box::pin(stand(&engine, &launched, &around)).await;
        let (post, witness, sites, mut parts) = match standing {
            Ok(standing) => standing,
            Err(error) => {
                // The first failure is the one to tell.
                let _ = launched.bottle.teardown().await;
                return Err(failed("the lab does not stand")(error));
            }
        };
        parts.extend(made_of(&launched.plan, release));
        let stage = Stage { spec: &spec, way, release, bundle, around: &around, sites: &sites };
        let (topology, wiring) = (drawn::topology(stage), drawn::wiring(stage));
        let lab = SystemLab { post, witness, sites, wiring, slowness };
        Ok(Self { bottle: launched.bottle, lab, topology, made_of: parts, _alone: alone })
    }
}

/// This machine's addresses but loopback. Bridges of bottles come and go, and only that of this one, `bridge`, is counted on.
fn own_addresses(bridge: Option<Ipv4Addr>) -> Vec<IpAddr> {
    let pool = docker::Spec::new("").pool;
    let is_anothers = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => pool.contains(v4) && Some(*v4) != bridge,
        IpAddr::V6(_) => false,
    };
    here::own_addresses().into_iter().filter(|ip| !is_anothers(ip)).collect()
}

/// Why the lab does not stand.
#[derive(Debug, Error)]
enum StandError {
    /// In the bundle.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The engine does not do its part.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// On this machine.
    #[error("this process cannot be the witness on this machine")]
    Listen(#[source] std::io::Error),
    /// As with engines elsewhere.
    #[error(
        "the engine says that it has published a port of the bundle at {0}, and what is sent there does not get to it: is the engine on \
         another machine? (take one on this machine)"
    )]
    Published(String),
}

/// Puts the witnesses where they stand: one in the bundle, and one in this very process.
async fn stand(
    engine: &Engine,
    launched: &Launched,
    around: &Around,
) -> Result<(Post, Witness, Sites, MadeOf), StandError> {
    let bundle = &launched.bundle;
    let container = bundle.plan.container("witness");
    let (owned, name) = (engine.clone(), container.clone());
    // Known before it is asked for, and gone before the bundle whose network it is in.
    let undo = move || async move { owned.remove_container(&name).await };
    launched.bottle.undo_first(format!("the container {container}"), undo).await;
    let post = Post::in_container(engine, &bundle.plan, &bundle.container, container).await?;
    let (in_bundle, opened) = post.witness(&around.wanted_in_bundle()).await?;
    let here = here::open(&around.wanted_on_machine());
    let (here, opened_here) = here.map_err(StandError::Listen)?;
    let sites = around.sites(&opened, &opened_here);
    let witness = Witness::together([&in_bundle, &here]);
    is_published(around, &sites, &witness).await?;
    let made_of = docker::made_of(engine, &bundle.plan).await?;
    Ok((post, witness, sites, made_of))
}

/// Whether who is behind the ports on loopback at which an engine says that it has published the bundle's is the bundle, and not
/// somebody of this machine's: before a machine dials them.
async fn is_published(around: &Around, sites: &Sites, witness: &Witness) -> Result<(), StandError> {
    let published = sites.all().filter(|(.., one)| around.is_published(one));
    let published: BTreeMap<_, _> = published.map(|(.., one)| (one.key, one)).collect();
    let (batches, nonces) = attempt::controls(published.values().copied());
    let fuse = Around::fuse_here(sites, &BTreeSet::new());
    for batch in batches.into_values() {
        here::probe(&Batch { fuse: fuse.clone(), ..batch }).await;
    }
    let log = witness.drain().await;
    for (key, nonce) in nonces {
        let one = published[&key];
        if log.reached(&nonce, one.id).is_none() {
            return Err(StandError::Published(one.address.to_string()));
        }
    }
    Ok(())
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
        let name = self.bottle.name();
        format!("`smolvm machine exec --name {name} -- COMMAND` is a command in it")
    }

    fn made_of(&self) -> MadeOf {
        self.made_of.clone()
    }

    fn expected(&self, probes: &[Probe]) -> Option<Table> {
        Some(self.topology.table(probes, NAME))
    }

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        self.lab.post.end().await;
        self.bottle.teardown().await
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
        Around::fuse(&self.sites, &self.gone())
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        if place == HOST {
            let fuse = Around::fuse_here(&self.sites, &self.gone());
            return Ok(here::probe(&Batch { fuse, ..batch.clone() }).await);
        }
        let fuse = Fuse::Namespaces(vec![self.post.namespace()]);
        let answers = self.post.ask(&Batch { fuse, ..batch.clone() }).await;
        answers.map_err(|source| LabError::Control {
            place: BUNDLE.to_owned(),
            source: std::io::Error::other(source),
        })
    }

    /// Nothing that is tried here is looked at.
    async fn observe(&self, _: View) -> Result<Option<Observation>, LabError> {
        Ok(None)
    }

    fn inbound(&self) -> Option<Inbound> {
        None
    }

    fn wiring(&self) -> Wiring {
        self.wiring.clone()
    }

    fn gone(&self) -> BTreeSet<IpAddr> {
        here::gone(&self.sites)
    }

    fn slowness(&self) -> u32 {
        self.slowness
    }

    /// The monitor does, for the addresses on the allow-list.
    fn accepts_for_others(&self) -> bool {
        true
    }

    fn has_real_bridge(&self) -> bool {
        true
    }
}
