//! How much memory an idle bottle takes: the anonymous memory of every process that was started for it, those of the
//! lab included. The aim is 2 MiB.
//!
//! A forked process shares its parent's pages until one of them writes. `anonymous` counts such a page in each of them,
//! `proportional` once in all.

use std::fs;

use claude_bottle::backend;
use claude_bottle::host::Host;

const BACKEND: &str = "namespace";

/// A process and its memory in KiB.
struct Process {
    pid: u32,
    anonymous: Option<u64>,
    /// Needs the right to trace the process, which the session in the bottle denies to all but root.
    proportional: Option<u64>,
}

impl Process {
    fn look(pid: u32) -> Self {
        Self {
            pid,
            anonymous: field(&format!("/proc/{pid}/status"), "RssAnon:"),
            proportional: field(&format!("/proc/{pid}/smaps_rollup"), "Pss_Anon:"),
        }
    }
}

/// The number behind `name` in a file of `/proc`.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// Every process below `pid`.
fn below(pid: u32) -> Vec<u32> {
    let mut all = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
            parents.extend(children.clone());
            all.extend(children);
        }
    }
    all
}

fn main() {
    if let Some(why) = backend::lacking(&Host::detect(), BACKEND) {
        eprintln!("skipped: {BACKEND}: {why}");
        return;
    }
    let backend = backend::by_name(BACKEND).expect("it lacks nothing");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let arena = backend.launch(None).await.expect("a bottle");
        let processes: Vec<_> = below(std::process::id()).into_iter().map(Process::look).collect();
        assert!(!processes.is_empty(), "a bottle has processes");
        let shown = |kib: Option<u64>| kib.map_or("?".to_owned(), |kib| format!("{kib} KiB"));
        println!("{:>8}  {:>10}  {:>12}", "pid", "anonymous", "proportional");
        for Process { pid, anonymous, proportional } in &processes {
            println!("{pid:>8}  {:>10}  {:>12}", shown(*anonymous), shown(*proportional));
        }
        let sum = |of: fn(&Process) -> Option<u64>| processes.iter().map(of).sum::<Option<u64>>();
        let anonymous = shown(sum(|process| process.anonymous));
        let proportional = shown(sum(|process| process.proportional));
        println!("{:>8}  {anonymous:>10}  {proportional:>12}", "all");
        arena.teardown().await.expect("a teardown");
    });
}
