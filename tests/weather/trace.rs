//! What a run has started, seen from outside: by descent, by a mark in the environment, by net namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// The variable that holds a run's mark. What the run starts inherits it.
pub(crate) const MARK: &str = "CLAUDE_BOTTLE_TEST_MARK";

/// How long what was killed may take to be gone. Measured: 4 ms.
const GONE: Duration = Duration::from_secs(20);

/// All that was seen of a run so far.
pub(crate) struct Trace {
    run: u32,
    mark: String,
    /// Processes below it, and when each was started, in the kernel's ticks.
    seen: BTreeMap<u32, u64>,
    /// The net namespaces of those, but for our own.
    nets: BTreeSet<String>,
    own_net: String,
}

impl Trace {
    pub(crate) fn of(run: u32, mark: String) -> Self {
        let own_net = net(std::process::id()).expect("/proc");
        Self { run, mark, seen: BTreeMap::new(), nets: BTreeSet::new(), own_net }
    }

    /// Takes note of what is there now.
    pub(crate) fn look(&mut self) {
        for pid in below(self.run) {
            let Some((_, started)) = stat(pid) else { continue };
            self.seen.insert(pid, started);
            self.nets.extend(net(pid).filter(|net| *net != self.own_net));
        }
    }

    /// How many processes were seen.
    pub(crate) fn processes(&self) -> usize {
        self.seen.len()
    }

    /// How many net namespaces were seen.
    pub(crate) fn net_namespaces(&self) -> usize {
        self.nets.len()
    }

    /// The helper's two processes: the outer one, and PID 1 of the lab.
    pub(crate) fn helper(&self) -> Option<(u32, u32)> {
        let outer = children(self.run).into_iter().find(|pid| is_helper(*pid))?;
        Some((outer, children(outer).into_iter().next()?))
    }

    /// The witness: the child of the lab's PID 1 that is in its PID namespace and holds all the sockets.
    pub(crate) fn witness(&self) -> Option<u32> {
        let (_, inner) = self.helper()?;
        let pids = |pid| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        children(inner).into_iter().find(|pid| {
            let sockets = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            pids(*pid) == pids(inner) && sockets > 15
        })
    }

    /// What is still there: processes, those of its net namespaces, those with its mark.
    fn left(&self, killed: u64) -> Vec<String> {
        let mut left = Vec::new();
        for pid in all() {
            let Some((state, started)) = stat(pid) else { continue };
            if state == 'Z' || pid == std::process::id() {
                continue;
            }
            let known = self.seen.get(&pid) == Some(&started);
            // A number may be given to another namespace at once, but not to one of a process that was there before.
            let inside = started <= killed && net(pid).is_some_and(|net| self.nets.contains(&net));
            if known || inside || self.is_marked(pid) {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                left.push(format!("{pid} {state} {}", String::from_utf8_lossy(&command)));
            }
        }
        left
    }

    fn is_marked(&self, pid: u32) -> bool {
        let mark = format!("{MARK}={}", self.mark);
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    }

    /// Waits until nothing of the run is left.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let (killed, until) = (now(), Instant::now() + GONE);
        loop {
            let left = self.left(killed);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// State, and start in ticks since the machine's.
fn stat(pid: u32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.nth(18)?.parse().ok()?))
}

fn net(pid: u32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/ns/net")).ok()?.to_string_lossy().into_owned())
}

/// Now, in ticks since the machine's start, rounded up.
fn now() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").expect("/proc");
    let (seconds, rest) = uptime.split_once('.').expect("a fraction");
    let hundredths: u64 = rest[..2].parse().expect("digits");
    seconds.parse::<u64>().expect("digits") * 100 + hundredths + 1
}

/// Children of every thread.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect::<Vec<_>>()
        })
        .collect()
}

/// Everything that descends from it.
fn below(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children(*pid));
        at += 1;
    }
    found
}

fn is_helper(pid: u32) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).nth(1) == Some(b"helper")
}
