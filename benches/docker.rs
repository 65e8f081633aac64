//! Bottles on this machine's own engine, beside what one `docker run --rm` of the same image takes there, and what the program
//! `docker` takes for the network and the two containers of a bottle.
//!
//! The aims: the catalogue in three times that, and eight bottles at once in three times one.

use std::process::{Command, Stdio};
use std::time::Duration;

use claude_bottle::backend::Backend as _;
use claude_bottle::backend::docker::image::Image;
use claude_bottle::backend::docker::{Docker, Engine, Spec, launch};
use claude_bottle::bottle::Bottle as _;
use claude_bottle::breach::Breach;
use claude_bottle::host::{EngineKind, Host};
use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::outcome::Standing;
use claude_bottle::probe::run;
use criterion::Criterion;
use futures_util::future::join_all;
use tokio::runtime::Runtime;

/// How many bottles are launched at once.
const MANY: usize = 8;

/// One container of the toolbox's image, from its creation to its end.
fn docker_run(c: &mut Criterion, tag: &str) {
    for (network, named) in [("none", "without a network"), ("bridge", "on the default network")] {
        c.bench_function(&format!("docker run --rm of the toolbox's image, {named}"), |b| {
            b.iter(|| assert!(docker(&["run", "--rm", "--network", network, tag, "version"])));
        });
    }
}

/// What a bottle is to the engine, by the engine's own program: an internal network and two containers that idle on it, up and
/// gone.
fn by_the_program(c: &mut Criterion, tag: &str, count: usize) {
    c.bench_function(&format!("{count} at once by the program docker, up and gone"), |b| {
        b.iter(|| {
            std::thread::scope(|scope| {
                for _ in 0..count {
                    scope.spawn(|| assert!(network_and_two_containers(tag)));
                }
            });
        });
    });
}

fn network_and_two_containers(tag: &str) -> bool {
    let name = format!("bench-{:08x}", rand::random::<u32>());
    let containers = ["agent", "bundle"].map(|role| format!("{name}-{role}"));
    let made = docker(&["network", "create", "--internal", &name]);
    let run = |container: &str| {
        docker(&["run", "--detach", "--network", &name, "--name", container, tag, "init"])
    };
    let ran = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(&containers[0]));
        run(&containers[1]) && other.join().is_ok_and(|ran| ran)
    });
    // Whatever came of it.
    let removed = docker(&["rm", "--force", &containers[0], &containers[1]]);
    let removed = docker(&["network", "rm", &name]) && removed;
    made && ran && removed
}

/// Whether the program does it.
fn docker(arguments: &[&str]) -> bool {
    let status = Command::new("docker").args(arguments).stdout(Stdio::null()).status();
    status.expect("docker").success()
}

/// Bottles, up and gone.
fn bottles(c: &mut Criterion, runtime: &Runtime, engine: &Engine, count: usize) {
    c.bench_function(&format!("{count} at once, up and gone"), |b| {
        b.iter(|| {
            runtime.block_on(async {
                let name = |_| Spec::new(format!("bench-{:08x}", rand::random::<u32>()));
                let specs: Vec<_> = (0..count).map(name).collect();
                let all = specs.iter().map(|spec| Box::pin(launch(engine, spec, &|_| {})));
                let launched = join_all(all).await.into_iter().map(|one| one.expect("a bottle"));
                let launched: Vec<_> = launched.collect();
                for gone in join_all(launched.iter().map(|one| one.bottle.teardown())).await {
                    gone.expect("a teardown");
                }
            });
        });
    });
}

/// Every probe that can run there and is not `slow`, lab up to lab gone.
fn catalogue(c: &mut Criterion, runtime: &Runtime, host: &Host) {
    let docker = Docker::on(host);
    let breaches = Breach::names();
    let mut probes =
        Catalogue::embedded(breaches.as_slice()).expect("right definitions").probes().to_vec();
    let proven = |probe: &claude_bottle::probe::definition::Probe| {
        docker
            .breaches()
            .iter()
            .any(|breach| probe.proven_by.iter().any(|name| name == breach.name()))
    };
    probes.retain(|probe| proven(probe) && !probe.tags.iter().any(|tag| tag == "slow"));
    c.bench_function(&format!("whole run, {} probes", probes.len()), |b| {
        b.iter(|| {
            let outcome =
                runtime.block_on(run::run(&docker, &probes, None, &(), &())).expect("a run");
            // What is measured is a run that proves something.
            let green = |standing| matches!(standing, Standing::Pass | Standing::Skip);
            assert!(outcome.probes.iter().all(|probe| green(probe.standing())), "{outcome:#?}");
        });
    });
}

fn main() {
    let mut host = Host::detect();
    host.engine = Ok(Some(EngineKind::System));
    if let Some(why) = Docker::on(&host).lacking() {
        eprintln!("skipped: docker: {why}");
        return;
    }
    let runtime = Runtime::new().expect("a runtime");
    let engine = runtime.block_on(Engine::of_host(&host)).expect("an engine");
    let image = Image::of_toolbox().expect("a toolbox");
    runtime.block_on(image.ensure(&engine)).expect("the image");
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let has_program = which::which("docker").is_ok();
    if has_program {
        docker_run(&mut c, image.tag());
    } else {
        eprintln!("skipped: there is no program docker to compare with");
    }
    for count in [1, MANY] {
        if has_program {
            by_the_program(&mut c, image.tag(), count);
        }
        bottles(&mut c, &runtime, &engine, count);
    }
    catalogue(&mut c, &runtime, &host);
    c.final_summary();
}
