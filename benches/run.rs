//! The embedded backend: a whole run, launch and teardown alone, and a thousand refused attempts in one bottle.
//!
//! The aims, lab up to lab gone: 100 ms for the whole catalogue, 50 ms for its four core probes; one exec and 1 s for the
//! thousand attempts.

use std::hint::black_box;
use std::time::{Duration, Instant};

use claude_bottle::backend::{self, Arena, Backend};
use claude_bottle::bottle::Command;
use claude_bottle::breach::Breach;
use claude_bottle::host::{Host, Requirement};
use claude_bottle::lab::{batch_line, converse};
use claude_bottle::probe::attempt::fresh_nonce;
use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::definition::Probe;
use claude_bottle::probe::outcome::Standing;
use claude_bottle::probe::run;
use claude_bottle_protocol::prober::{Action, Attempt, Batch, How, Target};
use criterion::Criterion;
use tokio::runtime::Runtime;

const BACKEND: &str = "namespace";
/// The four probes that a bottle is nothing without.
const CORE: [&str; 4] = ["smoke-echo", "bundle-reach", "loopback-reach", "egress-port-bypass"];
/// The bundle's address and the port of its egress daemon, which listens on the bundle's loopback alone.
const REFUSED: (&str, u16) = ("10.200.0.1", 9099);

/// The built-in probes that can run here and are not `slow`.
fn probes(host: &Host) -> Vec<Probe> {
    let breaches = Breach::names();
    let mut probes =
        Catalogue::embedded(breaches.as_slice()).expect("right definitions").probes().to_vec();
    probes.retain(|probe| {
        let mut needs = probe.needs.iter().filter_map(|word| word.parse::<Requirement>().ok());
        !probe.tags.iter().any(|tag| tag == "slow") && needs.all(|need| need.unmet(host).is_none())
    });
    probes
}

async fn launch(backend: &dyn Backend) -> Box<dyn Arena> {
    backend.launch(None).await.expect("a bottle")
}

fn whole_run(c: &mut Criterion, runtime: &Runtime, backend: &dyn Backend, probes: &[Probe]) {
    c.bench_function(&format!("whole run, {} probes", probes.len()), |b| {
        b.iter(|| {
            let run = run::run(backend, black_box(probes), None, &(), &());
            let outcome = runtime.block_on(run).expect("a run");
            // What is measured is a run that proves something.
            let is_green = |standing| matches!(standing, Standing::Pass | Standing::Skip);
            let others: Vec<_> =
                outcome.probes.iter().filter(|p| !is_green(p.standing())).collect();
            assert!(others.is_empty(), "{others:#?}");
            outcome
        });
    });
}

/// Measures one of two halves; the other is not counted.
fn halves(c: &mut Criterion, runtime: &Runtime, backend: &dyn Backend) {
    let timed = |iterations, which: fn(Duration, Duration) -> Duration| {
        let mut sum = Duration::ZERO;
        for _ in 0..iterations {
            sum += runtime.block_on(async {
                let begun = Instant::now();
                let arena = launch(backend).await;
                let launched = begun.elapsed();
                let begun = Instant::now();
                arena.teardown().await.expect("a teardown");
                which(launched, begun.elapsed())
            });
        }
        sum
    };
    c.bench_function("launch", |b| b.iter_custom(|n| timed(n, |launch, _| launch)));
    c.bench_function("teardown", |b| b.iter_custom(|n| timed(n, |_, teardown| teardown)));
}

fn refused(c: &mut Criterion, runtime: &Runtime, backend: &dyn Backend) {
    let arena = runtime.block_on(launch(backend));
    let attempt = |id| Attempt {
        id,
        nonce: fresh_nonce(),
        patience_ms: 1000,
        action: Action::Tcp(Target { host: REFUSED.0.to_owned(), port: REFUSED.1 }),
    };
    let batch = Batch {
        token: fresh_nonce(),
        fuse: arena.lab().fuse(),
        attempts: (0..1000).map(attempt).collect(),
    };
    let bottle = arena.bottle();
    c.bench_function("1,000 refused TCP attempts in one bottle", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let command =
                    Command::new(bottle.toolbox()).arg("prober").stdin(batch_line(&batch));
                let running = bottle.start(command).await.expect("a prober");
                let answers = converse(&batch, &mut running.lines(), |_| {}).await;
                assert_eq!(answers.trouble, None);
                assert!(answers.words.values().all(|(word, _)| word.how == How::Refused));
                assert_eq!(answers.words.len(), batch.attempts.len());
            });
        });
    });
    runtime.block_on(arena.teardown()).expect("a teardown");
}

fn main() {
    let host = Host::detect();
    if let Some(why) = backend::lacking(&host, BACKEND) {
        eprintln!("skipped: {BACKEND}: {why}");
        return;
    }
    let backend = backend::by_name(BACKEND).expect("it lacks nothing");
    let runtime = Runtime::new().expect("a runtime");
    let mut c = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let all = probes(&host);
    let core: Vec<_> =
        all.iter().filter(|probe| CORE.contains(&probe.name.as_str())).cloned().collect();
    assert_eq!(core.len(), CORE.len(), "the core probes are in the catalogue");
    whole_run(&mut c, &runtime, backend.as_ref(), &all);
    whole_run(&mut c, &runtime, backend.as_ref(), &core);
    halves(&mut c, &runtime, backend.as_ref());
    refused(&mut c, &runtime, backend.as_ref());
    c.final_summary();
}
