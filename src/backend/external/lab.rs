//! The whole command on a stand-in host, with the world of the embedded backend around it: `--lab`.
//!
//! The command runs as root of a user namespace in the lab's `host`. Whatever network it gives its sandbox hangs on that one,
//! and leads nowhere else. Its net namespace is not known beforehand: it is asked for once the toolbox is inside, and looked
//! for below the helper. Where it is not there, the sandbox was made by somebody outside, such as an engine's daemon; then
//! nothing is dialled at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::helper::STRAYS;
use claude_bottle_protocol::prober::{Batch, Fuse};
use thiserror::Error;

use super::allowed::{AllowError, Allowed};
use super::command::SandboxCommand;
use super::place::{place, temporary};
use super::sandbox::Sandbox;
use super::{Arena, LaunchError, failed};
use crate::backend::namespace::helper::{Built, Helper, HelperError};
use crate::backend::namespace::real::{RealLoopback, Share};
use crate::backend::namespace::world::foreign::Foreign;
use crate::bottle::{Bottle, BottleError, Command};
use crate::lab::{
    Answers, Fixture, Inbound, LabError, Observation, Place, Role, Sites, View, Wiring, Witness,
    batch_line, converse,
};
use crate::probe::attempt::fresh_nonce;
use crate::teardown::{Teardown, TeardownError};
use crate::toolbox;

/// What the sandbox's net namespace is called, where it has one of its own.
const SANDBOX: &str = "sandbox";
/// How long the prober may take to say where it is. It takes a few milliseconds.
const WHERE: Duration = Duration::from_secs(10);

/// A sandbox under test in the lab.
pub(super) struct LabArena {
    sandbox: Sandbox,
    lab: Around,
    teardown: Teardown,
    /// Holds the toolbox; gone with this.
    folder: tempfile::TempDir,
    _share: Share,
}

/// The lab around it.
struct Around {
    helper: Arc<Helper>,
    witness: Witness,
    sites: Sites,
    wiring: Wiring,
    inodes: BTreeMap<String, u64>,
    /// The net that the sandbox is in.
    net: String,
}

/// Why the sandbox is not in the lab.
#[derive(Debug, Error)]
enum Astray {
    /// The prober could not be asked.
    #[error("the prober does not say which net namespace it is in{0}")]
    Unknown(String),
    /// Its namespace is none that was made below the helper.
    #[error(
        "it was made outside of the lab, by an engine's daemon for instance: its net namespace is net:[{0}], and nothing \
         is dialled from there. Probe it without --lab"
    )]
    Elsewhere(u64),
    /// The helper could not look.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// The bottle could not be asked.
    #[error(transparent)]
    Bottle(#[from] BottleError),
}

impl LabArena {
    pub(super) async fn launch(
        command: &SandboxCommand,
        patience: Duration,
        allowed: &[Allowed],
    ) -> Result<Self, LaunchError> {
        let bytes = toolbox::bytes().map_err(failed("there is no toolbox"))?;
        // The lab has a folder /run of its own.
        let seen = temporary().into_iter().filter(|place| !place.starts_with("/run"));
        let folder = place(&bytes, seen).map_err(failed("the toolbox cannot be put on disk"))?;
        let share = Share::take(false).await;
        let real = RealLoopback::open();
        let real = real.map_err(failed("the listeners on the real loopback cannot be opened"))?;
        let pairs: Vec<_> = allowed.iter().map(|one| (one.address, one.transport)).collect();
        let mut world = Foreign::new(&pairs);
        let adopted = world.adopt(real);

        let not_ready = "the namespace helper does not start";
        let helper = Arc::new(Helper::launch().await.map_err(failed(not_ready))?);
        let mut teardown = Teardown::new();
        let ending = Arc::clone(&helper);
        teardown.push("the namespaces", move || async move { ending.end().await });
        let mut talk = helper.talk().await;
        let witness = talk.build(&world.lab(), adopted).await;
        talk.ready().await.map_err(failed(not_ready))?;
        let no_lab = "the lab does not stand";
        let witness = witness.map_err(failed(no_lab))?;
        let built = talk.built().await.map_err(failed(no_lab))?;
        drop(talk);
        let (events, orders) = witness.stdio.into_split();

        let sandbox = Sandbox::open_in(&helper, command, folder.path(), &bytes, patience).await;
        let sandbox = sandbox.map_err(failed("the command brings no toolbox into a sandbox"))?;
        let mut sites = world.sites(&built);
        sites.allowed = pairs.into_iter().collect();
        let first = allowed.first().map(|one| Ok((one.to(true)?, one.transport))).transpose();
        let first = first.map_err(|error: AllowError| error);
        sites.sign_of_life = first.map_err(failed("what is allowed is not in the lab"))?;
        let astray = "the sandbox is not in the lab";
        let (net, inode) = locate(&helper, &sandbox, &built).await.map_err(failed(astray))?;
        let mut inodes = built.inodes;
        inodes.insert(net.clone(), inode);
        let mut lab = Around {
            helper,
            witness: Witness::new(events, orders),
            sites,
            wiring: world.wiring(),
            inodes,
            net,
        };
        lab.draw().await;
        Ok(Self { sandbox, lab, teardown, folder, _share: share })
    }
}

/// Which net namespace the sandbox is in: the host's, or one that the helper is shown now, with its inode.
async fn locate(
    helper: &Helper,
    sandbox: &Sandbox,
    built: &Built,
) -> Result<(String, u64), Astray> {
    let inode = ask(sandbox).await?;
    let host = Foreign::host();
    if built.inodes.get(host) == Some(&inode) {
        return Ok((host.to_owned(), inode));
    }
    let files = helper.observe(host).await?;
    let strays = files.get(STRAYS).map(String::as_str).unwrap_or_default();
    let within = |line: &str| {
        // `process 7 in net:[4026532000]`
        let (process, net) = line.strip_prefix("process ")?.split_once(" in net:[")?;
        (net.strip_suffix(']')? == inode.to_string()).then(|| process.parse().ok())?
    };
    let mut why = None;
    for process in strays.lines().filter_map(within) {
        let mut talk = helper.talk().await;
        // What makes it known has nothing to witness, and ends with its input.
        talk.build(&Foreign::sandbox(SANDBOX, process), Vec::new()).await?;
        match talk.built().await {
            Ok(part) if part.inodes.get(SANDBOX) == Some(&inode) => {
                return Ok((SANDBOX.to_owned(), inode));
            }
            // That process has ended, and another one has its number.
            Ok(_) => {}
            Err(error) => why = Some(error),
        }
    }
    Err(why.map_or(Astray::Elsewhere(inode), Astray::Helper))
}

/// The inode of the net namespace that a prober in the sandbox is in. Nothing is dialled for that.
async fn ask(sandbox: &Sandbox) -> Result<u64, Astray> {
    let fuse = Fuse::Namespaces(Vec::new());
    let batch = Batch { token: fresh_nonce(), fuse, attempts: Vec::new() };
    let command = Command::new(sandbox.toolbox()).arg("prober").stream_stdin().timeout(WHERE);
    let mut running = sandbox.start(command).await?;
    if let Some(mut stdin) = running.take_stdin() {
        let _ = stdin.write(&batch_line(&batch)).await;
    }
    let answers = converse(&batch, &mut running.lines(), |_| {}).await;
    let why = answers.trouble.map(|why| format!(": {why}"));
    let no_proc = || ": there is no /proc in there, which --lab needs".to_owned();
    answers.netns.ok_or_else(|| Astray::Unknown(why.unwrap_or_else(no_proc)))
}

#[async_trait]
impl Arena for LabArena {
    fn bottle(&self) -> &dyn Bottle {
        &self.sandbox
    }

    fn lab(&self) -> &dyn Fixture {
        &self.lab
    }

    fn way_in(&self) -> String {
        self.lab.helper.way_in(self.lab.inode(&self.lab.net))
    }

    async fn teardown(mut self: Box<Self>) -> Result<(), TeardownError> {
        // Which cannot fail: the command ends with the lab.
        let _ = self.sandbox.end().await;
        let ended = self.teardown.run().await;
        let closed = self.folder.close();
        ended?;
        closed.map_err(|error| TeardownError(vec![("the toolbox's folder".into(), error.into())]))
    }
}

impl Around {
    /// Adds the sandbox to the drawing, as it is seen from outside.
    async fn draw(&mut self) {
        let mut addresses = vec![format!("in the network of {}", self.net)];
        if self.net == SANDBOX {
            let seen = self.observe(View::Bottle).await.ok().flatten().unwrap_or_default();
            let v4 =
                seen.addresses_v4.iter().filter(|ip| !ip.is_loopback()).map(ToString::to_string);
            let v6 = seen.addresses_v6.iter().filter(|(ip, _)| !ip.is_loopback());
            addresses = v4.chain(v6.map(|(ip, interface)| format!("{interface} {ip}"))).collect();
        }
        let (name, sites) = (SANDBOX.to_owned(), Vec::new());
        self.wiring.places.insert(0, Place { name, role: Role::Bottle, addresses, sites });
    }

    fn inode(&self, net: &str) -> Option<u64> {
        self.inodes.get(net).copied()
    }
}

#[async_trait]
impl Fixture for Around {
    fn sites(&self) -> &Sites {
        &self.sites
    }

    fn witness(&self) -> &Witness {
        &self.witness
    }

    fn fuse(&self) -> Fuse {
        Fuse::Namespaces(self.inode(&self.net).into_iter().collect())
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        self.helper.control(place, place, self.inode(place), batch).await
    }

    async fn observe(&self, view: View) -> Result<Option<Observation>, LabError> {
        let net = match view {
            View::Bottle => self.net.as_str(),
            View::Host => Foreign::host(),
            View::Bundle => return Ok(None),
        };
        self.helper.look(net).await.map(Some)
    }

    fn inbound(&self) -> Option<Inbound> {
        let from = Foreign::outside().into_iter().filter(|place| *place != self.net);
        Some(Inbound { control: self.net.clone(), from: from.map(ToOwned::to_owned).collect() })
    }

    fn wiring(&self) -> Wiring {
        self.wiring.clone()
    }

    fn has_real_bridge(&self) -> bool {
        false
    }
}
