//! Runs in a row, in one process: always the same verdicts, and nothing that grows.

use std::fs;
use std::time::{Duration, Instant};

use claude_bottle::backend::namespace::Namespace;
use claude_bottle::probe::catalogue::Catalogue;
use claude_bottle::probe::definition::Probe;
use claude_bottle::probe::outcome::RunOutcome;
use claude_bottle::probe::parse::Known;
use claude_bottle::probe::run::run;
use libtest_mimic::Trial;

use crate::trials::{needs_user_namespaces, trials};

/// How many, unless `CLAUDE_BOTTLE_TEST_RUNS` says otherwise.
const RUNS: usize = 50;
/// How long what is closed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

fn runs_in_a_row_are_alike_and_leave_nothing() {
    needs_user_namespaces();
    let catalogue = Catalogue::embedded(Known::all()).expect("the project's own probes");
    // Those that wait out the deny window, or sweep, would make this long, and nothing else.
    let is_quick = |probe: &&Probe| probe.name != "inbound" && !probe.tags.contains(&"slow".into());
    let probes: Vec<_> = catalogue.probes().iter().filter(is_quick).cloned().collect();
    let runtime = claude_bottle::runtime::make().expect("a runtime");
    let backend = Namespace::default();
    let one = || {
        let run = run(&backend, &probes, None, &(), &());
        verdicts(&runtime.block_on(run).expect("a bottle"))
    };

    let first = one();
    let descriptors = count("/proc/self/fd");
    let threads = count("/proc/self/task");
    let runs = std::env::var("CLAUDE_BOTTLE_TEST_RUNS").ok().and_then(|runs| runs.parse().ok());
    for number in 1..runs.unwrap_or(RUNS) {
        assert_eq!(one(), first, "run {number}");
    }

    settles("descriptors", || count("/proc/self/fd") <= descriptors);
    // Those that pack files and the like come and go.
    settles("threads", || count("/proc/self/task") <= threads + 1);
    settles("processes", || children().is_empty());
}

/// What was found out, but for the port that others may have.
fn verdicts(run: &RunOutcome) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for probe in &run.probes {
        for attempt in &probe.attempts {
            if !attempt.what.contains("real-loopback:discard") {
                // The name of an abstract socket is that run's own.
                let what = attempt.what.split(" as @").next().unwrap_or_default();
                let what = format!("{}: {what}", probe.name);
                all.push((what, format!("{:?}", attempt.verdict)));
            }
        }
    }
    all
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).expect("/proc").count()
}

/// Every child that was not waited for; the namespaces live no longer than these.
fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc");
    let lists =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What is closed in the background is closed soon.
#[track_caller]
fn settles(what: &str, mut is_as_before: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_as_before() {
        assert!(Instant::now() < until, "{what} are left: {:?}", fs::read_dir("/proc/self/fd"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![runs_in_a_row_are_alike_and_leave_nothing,]
}
