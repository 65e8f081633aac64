//! This machine and its processes, as proc(5) shows them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::errno::Errno;

/// The inode number of the first PID namespace, `PROC_PID_INIT_INO` (linux/proc_fs.h): from there every process is seen.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// When the machine was booted, in seconds since 1970.
pub(super) fn booted() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Its identity, if it has one; see machine-id(5).
pub(super) fn machine() -> Option<String> {
    let id = fs::read_to_string("/etc/machine-id").ok()?;
    // Empty, or `uninitialized`, in images that become machines.
    let id = id.trim();
    let is_one = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| id.to_owned())
}

/// What tells this boot from others.
pub(super) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What tells this PID namespace from others.
pub(super) fn pid_namespace() -> io::Result<u64> {
    namespace_of("self")
}

fn namespace_of(process: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{process}/ns/pid"))?.ino())
}

/// Whether the processes of all PID namespaces are seen from here.
pub(super) fn sees_all() -> io::Result<bool> {
    Ok(pid_namespace()? == FIRST_PID_NAMESPACE)
}

/// Whether it is known that no process is in this PID namespace, another one than ours, any more. A number that was given to a new
/// namespace since looks like the old one: that is told to be there.
pub(super) fn is_gone(namespace: u64) -> io::Result<bool> {
    if !sees_all()? {
        return Ok(false);
    }
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        // The first process is in our own, and may not be looked at by just anybody.
        let is_another = |name: &&str| name.parse::<u32>().is_ok_and(|pid| pid != 1);
        let Some(process) = name.to_str().filter(is_another) else { continue };
        match namespace_of(process) {
            Ok(found) if found == namespace => return Ok(false),
            Ok(_) => {}
            Err(error) if has_ended(&error) => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// Whether a process ended while it was looked at.
fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

/// When a process started, none if there is none. A zombie has ended.
pub(super) fn started(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if has_ended(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Its name may hold anything; fields count from the last parenthesis, where 3 is the state and 22 the start.
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return Ok(None);
    }
    Ok(fields.get(19).and_then(|field| field.parse().ok()))
}
