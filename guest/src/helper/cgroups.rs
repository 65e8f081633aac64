//! Control groups that a container engine leaves behind: folders of a file system that no namespace takes along.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a folder is tried: the kernel keeps it for a moment after its last process has gone.
const TRIES: u32 = 50;
/// How long to wait between two tries.
const AGAIN: Duration = Duration::from_millis(10);

/// The group `name` at the top of each hierarchy, whether it exists or not. Asked before `/proc` shows another PID
/// namespace, in which this process does not exist.
pub(super) fn named(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    hierarchies(&mounts).map(|hierarchy| hierarchy.join(name)).collect()
}

/// Removes these groups, and all groups in them, as far as they are empty.
pub(super) fn remove(groups: &[PathBuf]) {
    for group in groups {
        remove_below(group);
    }
}

/// Where the hierarchies are mounted (`proc_pid_mountinfo(5)`): the fifth word is the place, the first one after the dash
/// the type.
fn hierarchies(mounts: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let place = before.split(' ').nth(4)?;
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
    })
}

fn remove_below(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    for _ in 0..TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                std::thread::sleep(AGAIN);
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mounts = "24 22 0:21 / /proc rw,nosuid - proc proc rw\n\
                      30 28 0:25 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids\n\
                      31 28 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      nonsense\n";
        let found: Vec<_> = hierarchies(mounts).collect();
        let expected = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        assert_eq!(found, expected);
    }
}
