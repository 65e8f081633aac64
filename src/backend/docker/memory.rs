//! Whether the kernel has killed something in a container because its memory was used up.

use std::path::Path;
use std::time::Duration;

use super::engine::Engine;
use super::launch::Container;

/// Where control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";
/// How often, and after what time, an engine is asked again that has not noticed a container's end.
const TRIES: u32 = 40;
const TRY_AGAIN: Duration = Duration::from_millis(50);

impl Engine {
    /// How often that was. The kernel's own count, where the container's control group can be read from here; else 0 or
    /// "often", since an engine only tells whether it was.
    ///
    /// `was_seen` says whether the container's process was seen here once.
    pub(super) async fn memory_kills(&self, container: &Container, was_seen: bool) -> u64 {
        let groups = self.groups(container);
        if let Some(kills) = groups.as_ref().and_then(|all| counted(all, Path::new(GROUPS))) {
            return kills;
        }
        // Its end may be seen here before the engine has taken note of it, and of what it was.
        let tries = if was_seen && groups.is_none() { TRIES } else { 1 };
        for again in 0..tries {
            if again > 0 {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            let found = self.docker.inspect_container(&container.id, None).await;
            let Some(state) = found.ok().and_then(|found| found.state) else { break };
            if state.oom_killed == Some(true) {
                return u64::MAX;
            }
            if state.running != Some(true) {
                break;
            }
        }
        0
    }

    /// The control groups of a container, where its process is seen here. One that has ended has none, and its PID is somebody
    /// else's, or nobody's.
    pub(super) fn groups(&self, Container { id, pid }: &Container) -> Option<String> {
        let groups = std::fs::read_to_string(self.proc.join(pid.to_string()).join("cgroup"));
        groups.ok().filter(|groups| groups.contains(id))
    }
}

/// The kernel's count for the memory group of a process, whose `/proc/PID/cgroup` is given: `memory.oom_control` in the first
/// version of control groups, `memory.events` in the second.
fn counted(groups: &str, mounted: &Path) -> Option<u64> {
    let file = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some(mounted.join("memory").join(group).join("memory.oom_control"));
        }
        let events = mounted.join(group).join("memory.events");
        (controllers.is_empty() && events.exists()).then_some(events)
    })?;
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &str, text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        folder
    }

    #[test]
    fn both_versions_of_control_groups_count() {
        let first = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let first = group("memory/docker/id/memory.oom_control", first);
        let groups = "5:cpu,cpuacct:/docker/id\n4:memory:/docker/id\n0::/docker/id\n";
        assert_eq!(counted(groups, first.path()), Some(3));
        let second =
            group("docker/id/memory.events", "low 0\noom 2\noom_kill 1\noom_group_kill 0\n");
        assert_eq!(counted("0::/docker/id\n", second.path()), Some(1));
    }

    #[test]
    fn what_cannot_be_read_is_not_counted() {
        let empty = tempfile::tempdir().unwrap();
        for groups in ["", "0::/docker/id\n", "4:memory:/docker/id\n", "nonsense"] {
            assert_eq!(counted(groups, empty.path()), None, "{groups}");
        }
    }
}
