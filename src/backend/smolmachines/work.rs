//! A bottle for work: an agent of a manifest, as it is wanted of smolvm and of an engine.

use super::cache::Cache;
use super::launch::{Ground, launch};
use super::machine::MachineBottle;
use super::on_host::OnHost;
use super::plan::{GATEWAY, LOOPBACK, Network, Spec};
use super::smolvm::arguments::{Size, Volume};
use super::under_test::unenforced;
use super::{NAME, failed};
use crate::backend::docker::{self, Engine, work};
use crate::backend::{Cause, LaunchError};
use crate::bottle::{Bottle, Command};
use crate::bundle::gateway as proxy;
use crate::bundle::selection::Run;
use crate::host::Host;
use crate::plan::{HOME, Mount, Outline, Plan};
use crate::report::text::Untrusted;

/// What stands for the number that tells bottles of one agent apart, where none is made.
const ANY: &str = "NUMBER";
/// How much of what the toolbox complains of is told, in columns.
const TOLD: usize = 600;

/// What is wanted of smolvm; or why nothing can be. `loopback`: whether somebody has said that the host's may be opened.
pub(super) fn spec(plan: &Plan, number: &str, loopback: bool) -> Result<Spec, String> {
    let Some(image) = &plan.image else {
        return Err(format!(
            "{NAME} makes machines of an engine's images, and the manifest names none for the bottle `{}`: add `image`",
            plan.bottle
        ));
    };
    let env = [("HOME", HOME), ("USER", "agent")];
    let run = Run::gateway_alone(plan, NAME)?;
    let reaches_nothing = run.server.is_none();
    Ok(Spec {
        // smolvm takes no name with two hyphens in a row.
        name: work::name(plan, number).replace("--", "-"),
        image: Some(image.clone()),
        size: Size { processors: plan.limits.cpus, memory: plan.limits.memory_mib },
        // Nothing of the plan's own variables: the session gets those, over its input, and nobody sees them among arguments.
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        volumes: plan.mounts.iter().map(volume).collect::<Result<_, _>>()?,
        // Without a network nobody answers on port 53 either.
        network: if reaches_nothing { Network::Missing } else { Network::Allowed },
        gateway: (!reaches_nothing).then(|| proxy::config(&plan.egress)),
        loopback,
        ..Spec::default()
    })
}

fn volume(mount: &Mount) -> Result<Volume, String> {
    let source = mount.source.to_string_lossy().into_owned();
    if !mount.is_folder {
        return Err(format!(
            "{NAME} shows folders, and {source} is a file: mount the folder that it is in"
        ));
    }
    if mount.source.to_str().is_none() || source.contains(':') || mount.target.contains(':') {
        return Err(format!(
            "{NAME} cannot show {source} at {}: in smolvm's arguments a path is text without a `:`",
            mount.target
        ));
    }
    Ok(Volume { source, target: mount.target.clone(), writable: mount.writable })
}

/// How a plan is carried out here. Neither smolvm nor an engine is asked, so what only they know is told as what it will be.
pub(super) fn outline(plan: &Plan, loopback: bool) -> Result<Outline, String> {
    let spec = spec(plan, ANY, loopback)?;
    let (own, image) = (&spec.name, spec.image.as_deref().unwrap_or_default());
    let pool = docker::Spec::new("").pool;
    let has_way_out = spec.gateway.is_some();
    let mut steps = vec![
        format!("look for the engine's image {image}; nothing is fetched"),
        "build the toolbox's image, where the engine does not have it".to_owned(),
        format!("make the internal network {own} on a free /28 of {pool}"),
    ];
    if has_way_out {
        steps.push(format!("make the network {own}-out, which leads out, on another one"));
        steps.push(format!(
            "start the container {own}-bundle on both networks: the gateway, which listens on its address in {own}, port {}",
            proxy::PORT
        ));
        let else_ = if loopback {
            format!(
                "else start it anew with the gateway published at a port of 127.0.0.1, which the machine dials as {GATEWAY} and which opens \
                 every other port of this host's loopback to it ({LOOPBACK}=1)"
            )
        } else {
            "else end here".to_owned()
        };
        steps.push(format!("see whether this host reaches that address; {else_}"));
    } else {
        steps.push(format!("start the container {own}-bundle, which idles"));
    }
    steps.push("make the image ready for smolvm, where the cache does not have it".to_owned());
    let network = match spec.network {
        Network::Missing => "without a network",
        Network::Allowed | Network::Open(_) => "whose allow-list is the bundle's address",
    };
    steps.push(format!("create the machine {own}, {network}{}", limits(plan)));
    let shown = plan.mounts.iter().map(|mount| {
        let how = if mount.writable { "writable" } else { "read-only" };
        format!("show {} at {}, {how}", mount.source.display(), mount.target)
    });
    steps.extend(shown);
    steps.push("start it, copy the toolbox in, and open a session".to_owned());
    if has_way_out {
        let names: Vec<_> = proxy::variables(GATEWAY.into()).into_keys().collect();
        steps.push(format!("tell programs of the gateway by {}", names.join(", ")));
    }
    let copies = plan.copies.iter();
    steps.extend(copies.map(|copy| format!("copy {} to {}", copy.from.display(), copy.to)));
    steps.push(format!("run the command in {}, at this terminal", plan.folder));
    steps.push("delete the machine, then remove the container and the networks".to_owned());
    Ok(Outline {
        bottle: "the machine".to_owned(),
        bundle: has_way_out.then(|| format!("the second address of a free /28 in {pool}")),
        runtime: format!("a micro virtual machine of smolvm, of the image {image}"),
        bundle_runtime: "a container of the toolbox's image".to_owned(),
        runs: Run::gateway_alone(plan, NAME)?.daemons,
        files: Vec::new(),
        leaks: leaks(&spec),
        steps,
    })
}

/// What gets out of such a machine although no plan lets it.
fn leaks(spec: &Spec) -> Vec<String> {
    let mut leaks = Vec::new();
    if spec.network == Network::Missing {
        return leaks;
    }
    leaks.push(
        "smolvm answers on port 53 of every address over UDP, and asks this host's resolver for any name: a look-up gets out, past the gateway"
            .to_owned(),
    );
    if spec.loopback {
        leaks.push(format!(
            "every port of this host's loopback, at {GATEWAY}, where this host does not reach the bundle's address ({LOOPBACK}=1)"
        ));
    }
    leaks
}

/// What it may use up, as the end of a sentence.
fn limits(plan: &Plan) -> String {
    let limits = [
        plan.limits.memory_mib.map(|mib| format!("{mib} MiB of memory")),
        plan.limits.cpus.map(|cpus| format!("{cpus} processors")),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    let at_most =
        if limits.is_empty() { String::new() } else { format!("; at most {}", limits.join(", ")) };
    // They are those of its own kernel, and take none of this host's.
    let processes = plan.limits.processes.map_or("", |_| "; its processes are not limited");
    format!("{at_most}{processes}")
}

/// Launches a bottle for work with the smolvm and the engine of this host.
pub(super) async fn start(host: &Host, plan: &Plan) -> Result<Box<dyn Bottle>, LaunchError> {
    let program = match &host.smolvm {
        Ok(smolvm) => &smolvm.path,
        Err(lack) => return Err(failed("there is no smolvm")(lack.to_string())),
    };
    let cache = Cache::of_user().map_err(failed("there is no cache"))?;
    let engine = Engine::of_host(host).await;
    let engine = engine.map_err(failed("this machine's engine is not reached"))?;
    let ground = OnHost::new(program, engine).await;
    let ground = ground.map_err(failed("smolvm does not run"))?;
    Ok(Box::new(on(&ground, &cache, plan, (host.smolvm_loopback, unenforced())).await?))
}

/// Launches a bottle for work where smolvm and the engine are. What somebody has said may be: that the host's loopback is opened,
/// and that smolvm drops the allow-list.
async fn on(
    ground: &dyn Ground,
    cache: &Cache,
    plan: &Plan,
    (loopback, unenforced): (bool, bool),
) -> Result<MachineBottle, LaunchError> {
    let spec = spec(plan, &format!("{:08x}", rand::random::<u32>()), loopback);
    let spec = spec.map_err(failed("the plan cannot be carried out"))?;
    let launched = Box::pin(launch(ground, cache, &spec, unenforced, &|_| {})).await;
    let bottle = launched.map_err(failed("the bottle does not start"))?.bottle;
    if let Err(why) = make_home(&bottle).await {
        // The first failure is the one to tell.
        let _ = bottle.teardown().await;
        return Err(failed("there is no home folder in the machine")(why));
    }
    Ok(bottle)
}

/// Makes the home folder, which the image may lack.
async fn make_home(bottle: &MachineBottle) -> Result<(), Cause> {
    // What unpacks nothing makes the folder to unpack it in.
    let made = bottle.exec(Command::new(bottle.toolbox()).args(["unpack", HOME])).await?;
    if made.end.is_success() {
        return Ok(());
    }
    let said = Untrusted::new(made.stderr.trim_ascii()).one_line(TOLD);
    Err(format!("{} ({said})", made.end).into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bundle::pipelock::{Allowlist, Source, Wanted, classify};
    use crate::manifest::{Limits, Runtime};

    fn plan(egress: &[&str], mounts: Vec<Mount>) -> Plan {
        let wanted = |host: &&str| Wanted {
            source: Source::Egress { line: 1 },
            host: classify(host).unwrap(),
            ports: [443].into(),
        };
        Plan {
            agent: "smith".into(),
            bottle: "box".into(),
            image: Some("localhost/smith:1".into()),
            runtime: Runtime::Runc,
            limits: Limits { memory_mib: Some(512), cpus: None, processes: Some(64) },
            command: vec!["claude".into()],
            folder: HOME.into(),
            env: BTreeMap::new(),
            egress: Allowlist::of(egress.iter().map(wanted)),
            bundle_image: None,
            daemons: vec!["gateway".into()],
            mounts,
            copies: Vec::new(),
        }
    }

    fn mount(source: &str, is_folder: bool) -> Mount {
        Mount { source: source.into(), target: "/work".into(), writable: true, is_folder }
    }

    #[test]
    fn what_may_reach_nothing_has_no_network_and_no_leak() {
        let closed = plan(&[], Vec::new());
        let spec = spec(&closed, "1", true).unwrap();
        assert_eq!((spec.network, spec.gateway), (Network::Missing, None));
        let outline = outline(&closed, true).unwrap();
        assert_eq!((outline.bundle, outline.leaks.len()), (None, 0));
    }

    #[test]
    fn what_leaks_is_told_before_anything_is_done() {
        let open = plan(&["a.test"], Vec::new());
        let leaks = |loopback| outline(&open, loopback).unwrap().leaks;
        assert!(leaks(false)[0].contains("port 53 of every address"), "{:?}", leaks(false));
        assert_eq!((leaks(false).len(), leaks(true).len()), (1, 2));
        assert!(leaks(true)[1].contains("CLAUDE_BOTTLE_SMOLVM_LOOPBACK=1"), "{:?}", leaks(true));
    }

    #[test]
    fn what_smolvm_cannot_show_is_refused() {
        let told = |mount| spec(&plan(&[], vec![mount]), "1", false).unwrap_err();
        assert!(told(mount("/etc/hosts", false)).contains("mount the folder that it is in"));
        assert!(told(mount("/a:b", true)).contains("without a `:`"));
        let shown = spec(&plan(&[], vec![mount("/a b", true)]), "1", false).unwrap().volumes;
        let volume = Volume { source: "/a b".into(), target: "/work".into(), writable: true };
        assert_eq!(shown, [volume]);
        let nothing = Plan { image: None, ..plan(&[], Vec::new()) };
        assert!(
            spec(&nothing, "1", false).unwrap_err().contains("names none for the bottle `box`")
        );
    }

    #[test]
    fn a_name_is_one_that_smolvm_takes() {
        let long = Plan { agent: format!("{}-b", "a".repeat(30)), ..plan(&[], Vec::new()) };
        let name = |number| spec(&long, number, false).unwrap().name;
        assert_eq!(name("00c0ffee"), format!("{}-00c0ffee", "a".repeat(30)));
        let two = Plan { agent: "a--b".into(), ..long };
        assert_eq!(spec(&two, "1", false).unwrap().name, "a-b-1");
    }
}
