//! A bottle for work: an agent of a manifest, as it is wanted of an engine.

use super::spec::{Limits, Mount, Spec};
use super::way_out::DAEMON;
use super::{Engine, NAME, failed, launch};
use crate::backend::LaunchError;
use crate::bottle::Bottle;
use crate::bundle::gateway as proxy;
use crate::host::Host;
use crate::plan::{HOME, Outline, Plan};

use super::plan::Step;

/// How much of an agent's name goes into its bottle's: what is added still has to fit.
const NAME_PART: usize = 31;
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
    if !plan.egress.is_empty() {
        spec.bundle.gateway = Some(proxy::config(&plan.egress));
    }
    Ok(spec)
}

/// How a plan is carried out here. No engine is asked, so what only it knows is told as what it will be.
pub(super) fn outline(plan: &Plan) -> Result<Outline, String> {
    let spec = spec(plan, ANY)?;
    let (own, pool) = (&spec.name, spec.pool);
    let image = spec.image.as_deref().unwrap_or_default();
    let runtime = plan.runtime.as_str();
    let has_way_out = spec.bundle.gateway.is_some();
    let mut steps = vec![
        format!(
            "look for the engine's image {image} and its runtime {runtime}; nothing is fetched"
        ),
        "build the toolbox's image, where the engine does not have it".to_owned(),
        format!("make the internal network {own} on a free /28 of {pool}"),
    ];
    if has_way_out {
        steps.push(format!("make the network {own}-out, which leads out, on another one"));
    }
    steps.push(format!("make the volumes {own}-home and {own}-toolbox"));
    steps.push(if has_way_out {
        format!(
            "create the container {own}-bundle on both networks: the gateway, which listens on its address in {own}, port {}",
            proxy::PORT
        )
    } else {
        format!("create the container {own}-bundle, which idles")
    });
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
    if has_way_out {
        let names: Vec<_> =
            proxy::variables(std::net::Ipv4Addr::UNSPECIFIED.into()).into_keys().collect();
        steps.push(format!("tell programs of the gateway by {}", names.join(", ")));
    }
    let copies = plan.copies.iter();
    steps.extend(copies.map(|copy| format!("copy {} to {}", copy.from.display(), copy.to)));
    steps.push(format!("run the command in {}, at this terminal", plan.folder));
    steps.push("remove containers, volumes and networks".to_owned());
    Ok(Outline {
        bottle: format!("the third address of a free /28 in {pool}"),
        bundle: Some("the second one".to_owned()),
        runtime: format!("{runtime}, in a container of the image {image}"),
        runs: if has_way_out { vec![DAEMON] } else { Vec::new() },
        leaks: Vec::new(),
        steps,
    })
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
