//! A bottle for work: no lab, no witness; the bottle, the bundle that it reaches, and the gateway there.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::helper::{
    Bottle as Walls, Gateway as WantedGateway, Mount, Process, REAL,
};
use tokio::sync::Mutex;

use super::gateway::{self, Gateway};
use super::helper::{Helper, complaint};
use super::world::{self, net};
use super::{LaunchError, NAME, failed};
use crate::bottle::session::Session;
use crate::bottle::{Bottle, BottleError, Command, Running};
use crate::bundle::gateway as proxy;
use crate::bundle::selection::Run;
use crate::nearest::visible;
use crate::plan::{Outline, Plan};
use crate::teardown::{Teardown, TeardownError};

/// How long a bottle's session may take to greet. It takes a few milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a bottle for work shows of the host, read-only and as far as it is there: programs, what they are linked with,
/// certificates of authorities, the time zone. Nothing of `/home`, `/root`, `/run`, `/var`, and no configuration besides.
const SHOWN: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    // Certificates without the private keys beside them, which a group may read that cannot be dropped.
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// Those of [`SHOWN`] that are there.
fn shown() -> impl Iterator<Item = Mount> {
    let there = SHOWN.iter().filter(|path| Path::new(path).exists());
    there.map(|path| Mount {
        source: (*path).to_owned(),
        target: (*path).to_owned(),
        writable: false,
    })
}

/// What a bottle of this plan shows of the host.
fn mounts(plan: &Plan) -> Vec<Mount> {
    let wanted = plan.mounts.iter().map(|mount| Mount {
        source: mount.source.to_string_lossy().into_owned(),
        target: mount.target.clone(),
        writable: mount.writable,
    });
    shown().chain(wanted).collect()
}

/// How a plan is carried out here; or why it cannot be.
pub(super) fn outline(plan: &Plan) -> Result<Outline, String> {
    let run = Run::gateway_alone(plan, NAME)?;
    let show = |mount: Mount| {
        let how = if mount.writable { "writable" } else { "read-only" };
        format!("show {} at {}, {how}", mount.source, mount.target)
    };
    let [bottle, bundle] = world::ADDRESSES;
    let mut steps = vec![
        "make user, PID, mount, IPC and UTS namespaces".to_owned(),
        format!(
            "make two net namespaces and a wire between them: the bottle {bottle}, the bundle {bundle}"
        ),
        format!("give the bottle one route, to {bundle}"),
    ];
    if run.server.is_some() {
        let port = proxy::PORT;
        steps.push(format!(
            "run the gateway in the host's network, its socket {bundle}:{port} in the bundle's"
        ));
        let names: Vec<_> = proxy::variables(bundle).into_keys().collect();
        steps.push(format!("tell programs of it by {}", names.join(", ")));
    }
    steps.push("make a root file system in memory".to_owned());
    steps.extend(mounts(plan).into_iter().map(show));
    steps.push("drop every capability, forbid new ones, filter system calls".to_owned());
    steps.push("start the bottle's session".to_owned());
    let copies = plan.copies.iter();
    steps.extend(copies.map(|copy| format!("copy {} to {}", copy.from.display(), copy.to)));
    steps.push(format!("run the command in {}, at this terminal", plan.folder));
    steps.push("end every process in it, upon which the kernel removes the namespaces".to_owned());
    let [bottle, bundle] = [bottle, bundle].map(|address| address.to_string());
    Ok(Outline {
        bottle,
        bundle: Some(bundle),
        runtime: "Linux namespaces".to_owned(),
        bundle_runtime: "a net namespace".to_owned(),
        runs: run.daemons,
        files: Vec::new(),
        leaks: Vec::new(),
        steps,
    })
}

/// A bottle for work.
struct Started {
    name: String,
    session: Session,
    /// None where nothing may be reached: then nothing listens in its bundle.
    gateway: Option<Gateway>,
    teardown: Mutex<Teardown>,
}

/// The gateway of a bottle for work: reached in the bundle, and itself where this process is.
fn wanted_gateway() -> WantedGateway {
    let [_, bundle] = world::ADDRESSES;
    WantedGateway {
        listens_in: net::BUNDLE.into(),
        listens_on: SocketAddr::new(bundle, proxy::PORT),
        dials_from: REAL.into(),
        weakness: None,
    }
}

/// Launches a bottle for work.
pub(super) async fn start(plan: &Plan) -> Result<Box<dyn Bottle>, LaunchError> {
    let run = Run::gateway_alone(plan, NAME).map_err(failed("the plan cannot be carried out"))?;
    let name = format!("{}-{:08x}", plan.agent, rand::random::<u32>());
    let has_way_out = run.server.is_some();
    let mut walls = Walls { mounts: mounts(plan), ..world::walls(&name) };
    if has_way_out {
        walls.env = proxy::variables(world::ADDRESSES[1]);
    }
    let not_ready = "the namespace helper does not start";
    let helper = Arc::new(Helper::launch().await.map_err(failed(not_ready))?);
    let mut teardown = Teardown::new();
    let ending = Arc::clone(&helper);
    teardown.push("the namespaces", move || async move { ending.end().await });
    let mut talk = helper.talk().await;
    let nets = talk.build(&world::for_work(), Vec::new()).await;
    let bottle = talk.start(Process::Bottle(walls)).await;
    let config = proxy::config(&plan.egress);
    let gateway = if has_way_out {
        Some(gateway::ask(&mut talk, wanted_gateway(), &config).await)
    } else {
        None
    };
    // Where it could not even be asked, what the helper has said before explains that.
    talk.ready().await.map_err(failed(not_ready))?;
    let no_nets = "the net namespaces do not stand";
    let nets = nets.map_err(failed(no_nets))?;
    talk.built().await.map_err(failed(no_nets))?;
    let no_bottle = "the bottle does not start";
    let bottle = bottle.map_err(failed(no_bottle))?;
    talk.started().await.map_err(failed(no_bottle))?;
    let gateway = match gateway {
        Some(asked) => Some(gateway::listening(asked, &mut talk).await?),
        None => None,
    };
    drop(talk);
    // The process that made them has nothing to witness, and ends with its input.
    drop(nets);
    let (output, input) = bottle.stdio.into_split();
    let said = complaint(bottle.stderr);
    let session = Session::open_or_told(output, input, HANDSHAKE, said).await;
    let session = session.map_err(failed("the bottle does not answer"))?;
    Ok(Box::new(Started { name, session, gateway, teardown: Mutex::new(teardown) }))
}

#[async_trait]
impl Bottle for Started {
    fn name(&self) -> &str {
        &self.name
    }

    fn toolbox(&self) -> &str {
        self.session.toolbox()
    }

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        self.session.start(command)
    }

    fn remarks(&self) -> Vec<String> {
        let refusals = self.gateway.as_ref().map(Gateway::refusals).unwrap_or_default();
        refusals.iter().map(|line| visible(line)).collect()
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        let done = self.teardown.lock().await.run().await;
        if let Some(gateway) = &self.gateway {
            gateway.ended().await;
        }
        done
    }
}
