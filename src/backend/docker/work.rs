//! A bottle for work: an agent of a manifest, as it is wanted of an engine.

use super::plan::{LOOKED_THROUGH, Step};
use super::spec::{Limits, Mount, Serves, Spec};
use super::{Engine, NAME, failed, launch};
use crate::backend::LaunchError;
use crate::bottle::Bottle;
use crate::bundle::selection::{Run, Server};
use crate::bundle::{gateway as proxy, pipelock};
use crate::host::Host;
use crate::plan::{File, HOME, Outline, Plan};

/// How much of an agent's name goes into its bottle's: what is added still has to fit.
const NAME_PART: usize = 31;
/// The daemon that looks through what the agent has.
const LOOKS_THROUGH: &str = "gitleaks";
/// What stands for the number that tells bottles of one agent apart, where none is made.
const ANY: &str = "NUMBER";

/// The name of a bottle for this plan.
pub(in crate::backend) fn name(plan: &Plan, number: &str) -> String {
    let part: String = plan.agent.chars().take(NAME_PART).collect();
    format!("{}-{number}", part.trim_end_matches('-'))
}

/// What is wanted of an engine; or why nothing can be.
fn spec(plan: &Plan, number: &str) -> Result<Spec, String> {
    let Some(image) = &plan.image else {
        return Err(format!(
            "{NAME} runs images, and the manifest names none for the bottle `{}`: add `image`",
            plan.bottle
        ));
    };
    let mut spec = Spec::new(name(plan, number));
    spec.image = Some(image.clone());
    spec.runtime = Some(plan.runtime.as_str().to_owned());
    // Nothing of the plan's own variables: the session gets those, over its input, and nobody sees them by asking the engine.
    spec.env = [("HOME", HOME), ("USER", "agent")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let mount = |mount: &crate::plan::Mount| Mount {
        source: mount.source.to_string_lossy().into_owned(),
        target: mount.target.clone(),
        writable: mount.writable,
    };
    spec.mounts = plan.mounts.iter().map(mount).collect();
    let number = |limit: Option<u32>| limit.map_or(0, i64::from);
    spec.limits = Limits {
        memory: number(plan.limits.memory_mib) << 20,
        pids: number(plan.limits.processes),
        cpus: number(plan.limits.cpus),
    };
    let run = Run::of(&plan.daemons, &plan.egress).map_err(|error| error.to_string())?;
    spec.bundle.image.clone_from(&plan.bundle_image);
    spec.bundle.looks_through = run.daemons.iter().any(|name| name == LOOKS_THROUGH);
    spec.bundle.daemons = run.daemons;
    spec.bundle.serves = run.server.map(|server| match server {
        Server::Gateway => Serves::Gateway(proxy::config(&plan.egress)),
        Server::Pipelock => Serves::Pipelock { yaml: pipelock::yaml(&plan.egress) },
    });
    Ok(spec)
}

/// How a plan is carried out here. No engine is asked, so what only it knows is told as what it will be.
pub(super) fn outline(plan: &Plan) -> Result<Outline, String> {
    let spec = spec(plan, ANY)?;
    let (own, pool) = (&spec.name, spec.pool);
    let image = spec.image.as_deref().unwrap_or_default();
    let runtime = plan.runtime.as_str();
    let bundle = &spec.bundle;
    let images = [Some(image), bundle.image.as_deref()].into_iter().flatten();
    let images: Vec<_> = images.collect();
    let mut steps = vec![
        format!(
            "look for the engine's {} {} and its runtime {runtime}; nothing is fetched",
            if images.len() == 1 { "image" } else { "images" },
            images.join(", ")
        ),
        "build the toolbox's image, where the engine does not have it".to_owned(),
        format!("make the internal network {own} on a free /28 of {pool}"),
    ];
    if bundle.serves.is_some() {
        steps.push(format!("make the network {own}-out, which leads out, on another one"));
    }
    steps.push(format!("make the volumes {own}-home and {own}-toolbox"));
    steps.extend(bundle_steps(&spec));
    steps.push(format!(
        "create the container {own}-agent: no capabilities, no new ones, a read-only root, user 1000{}",
        limits(plan)
    ));
    let shown = plan.mounts.iter().map(|mount| {
        let how = if mount.writable { "writable" } else { "read-only" };
        format!("show {} at {}, {how}", mount.source.display(), mount.target)
    });
    steps.extend(shown);
    steps.push("start both".to_owned());
    steps.push(format!(
        "by the container {own}-pinner leave the agent one route, to its bundle, and a packet filter that lets nothing else pass"
    ));
    if !bundle.daemons.is_empty() {
        steps
            .push(format!("wait until the bundle's daemons are up: {}", bundle.daemons.join(", ")));
    }
    if let Some(serves) = &bundle.serves {
        let names: Vec<_> =
            proxy::variables(std::net::Ipv4Addr::UNSPECIFIED.into()).into_keys().collect();
        let server = serves.server().daemon();
        steps.push(format!("tell programs of {server} by {}", names.join(", ")));
    }
    let copies = plan.copies.iter();
    steps.extend(copies.map(|copy| format!("copy {} to {}", copy.from.display(), copy.to)));
    steps.push(format!("run the command in {}, at this terminal", plan.folder));
    steps.push("remove containers, volumes and networks".to_owned());
    Ok(Outline {
        bottle: format!("the third address of a free /28 in {pool}"),
        bundle: Some("the second one".to_owned()),
        runtime: format!("{runtime}, in a container of the image {image}"),
        bundle_runtime: match &bundle.image {
            Some(image) => format!("a container of the image {image}, with this version's init"),
            None => "a container of the toolbox's image".to_owned(),
        },
        runs: bundle.daemons.clone(),
        files: files(&spec),
        leaks: Vec::new(),
        steps,
    })
}

/// How the bundle is made.
fn bundle_steps(spec: &Spec) -> Vec<String> {
    let (own, bundle) = (&spec.name, &spec.bundle);
    let daemons = bundle.daemons.join(", ");
    let mut steps = vec![match &bundle.serves {
        Some(serves) => format!(
            "create the container {own}-bundle on both networks: {daemons}; {} listens on its address in {own}, port {}",
            serves.server().daemon(),
            proxy::PORT
        ),
        None if daemons.is_empty() => format!("create the container {own}-bundle, which idles"),
        None => format!("create the container {own}-bundle: {daemons}"),
    }];
    for File { daemon, path, .. } in files(spec) {
        steps.push(format!("let its init write {path} for {daemon}, in memory"));
    }
    if bundle.looks_through {
        steps.push(format!("show it {HOME} at {LOOKED_THROUGH}/home, read-only"));
        let mounts = (1..).zip(&spec.mounts);
        steps.extend(mounts.map(|(number, mount): (u32, _)| {
            format!("show it {} at {LOOKED_THROUGH}/{number}, read-only", mount.source)
        }));
    }
    steps
}

/// What the daemons in the bundle are given.
fn files(spec: &Spec) -> Vec<File> {
    match &spec.bundle.serves {
        Some(Serves::Pipelock { yaml }) => {
            let daemon = Server::Pipelock.daemon();
            vec![File { daemon, path: pipelock::FILE, text: yaml.clone() }]
        }
        Some(Serves::Gateway(_)) | None => Vec::new(),
    }
}

/// What it may use up, as the end of a sentence.
fn limits(plan: &Plan) -> String {
    let limits = [
        plan.limits.memory_mib.map(|mib| format!("{mib} MiB of memory")),
        plan.limits.cpus.map(|cpus| format!("{cpus} processors")),
        plan.limits.processes.map(|processes| format!("{processes} processes")),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    if limits.is_empty() { String::new() } else { format!("; at most {}", limits.join(", ")) }
}

/// Launches a bottle for work on the engine of this host.
pub(super) async fn start(
    host: &Host,
    plan: &Plan,
    done: &(dyn Fn(Step) + Send + Sync),
) -> Result<Box<dyn Bottle>, LaunchError> {
    let spec = spec(plan, &format!("{:08x}", rand::random::<u32>()));
    let spec = spec.map_err(failed("the plan cannot be carried out"))?;
    let engine = Engine::of_host(host).await;
    let engine = engine.map_err(failed("this machine's engine is not reached"))?;
    let launched = Box::pin(launch(&engine, &spec, done)).await;
    let launched = launched.map_err(failed("the bottle does not start"))?;
    Ok(Box::new(launched.bottle))
}
