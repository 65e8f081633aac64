//! This Mac and its processes, as its own programs tell: sysctl(8), ioreg(8), ps(1). There are no PID namespaces.

#![expect(clippy::unnecessary_wraps, reason = "the same as on Linux, where it may fail")]

use std::io;
use std::process::Command;
use std::time::SystemTime;

/// When the machine was booted, in seconds since 1970.
pub(super) fn booted() -> Option<u64> {
    booted_in(&said("/usr/sbin/sysctl", &["-n", "kern.boottime"]).ok()?)
}

/// In `{ sec = 1764540000, usec = 42 } Sun Nov 30 22:00:00 2025`.
fn booted_in(said: &str) -> Option<u64> {
    let seconds = said.split_once("sec = ")?.1;
    seconds.split(',').next()?.trim().parse().ok()
}

/// Its identity.
pub(super) fn machine() -> Option<String> {
    machine_in(&said("/usr/sbin/ioreg", &["-rd1", "-c", "IOPlatformExpertDevice"]).ok()?)
}

/// In a list of properties, a line each: `"IOPlatformUUID" = "…"`.
fn machine_in(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.contains("\"IOPlatformUUID\""))?;
    let id = line.rsplit('"').nth(1).filter(|id| !id.is_empty())?;
    Some(id.to_owned())
}

/// What tells this boot from others.
pub(super) fn boot() -> io::Result<String> {
    Ok(said("/usr/sbin/sysctl", &["-n", "kern.bootsessionuuid"])?.trim().to_owned())
}

/// There is but one.
pub(super) fn pid_namespace() -> io::Result<u64> {
    Ok(0)
}

/// Whether the processes of all PID namespaces are seen from here.
#[cfg(test)]
pub(super) fn sees_all() -> io::Result<bool> {
    Ok(true)
}

/// Whether it is known that no process is in this PID namespace, another one than ours.
pub(super) fn is_gone(_: u64) -> io::Result<bool> {
    Ok(false)
}

/// When a process started, in seconds since 1970, none if there is none. A zombie has ended.
pub(super) fn started(pid: u32) -> io::Result<Option<u64>> {
    // Each has an option of its own: a heading, here an empty one, goes as far as its option does.
    let arguments = ["-o", "state=", "-o", "lstart=", "-p", &pid.to_string()];
    // Its exit code says whether there is one, and so does that it prints nothing.
    Ok(started_in(&printed("/bin/ps", &arguments)?.1))
}

/// In `Ss   Mon Nov 30 22:00:00 2026`, at UTC.
fn started_in(said: &str) -> Option<u64> {
    let (state, date) = said.trim().split_once(' ')?;
    if state.starts_with('Z') {
        return None;
    }
    // As asctime(3) has it.
    let date = httpdate::parse_http_date(date.trim()).ok()?;
    Some(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

/// What a program prints that must not fail.
fn said(program: &str, arguments: &[&str]) -> io::Result<String> {
    match printed(program, arguments)? {
        (true, said) => Ok(said),
        (false, _) => Err(io::Error::other(format!("{program} {} failed", arguments.join(" ")))),
    }
}

/// Whether a program succeeds, and what it prints; in nobody's language, at UTC.
fn printed(program: &str, arguments: &[&str]) -> io::Result<(bool, String)> {
    let mut command = Command::new(program);
    let output = command.args(arguments).env("LC_ALL", "C").env("TZ", "UTC").output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_programs_print_is_understood() {
        let said = "{ sec = 1764540000, usec = 421337 } Sun Nov 30 22:00:00 2025\n";
        assert_eq!(booted_in(said), Some(1_764_540_000));
        let said = "+-o J316sAP  <class IOPlatformExpertDevice>\n    {\n      \"model\" = <\"Mac\">\n      \
                    \"IOPlatformUUID\" = \"A8E1\"\n    }\n";
        assert_eq!(machine_in(said).as_deref(), Some("A8E1"));
        assert_eq!(started_in("Ss   Sun Nov  6 08:49:37 1994    \n"), Some(784_111_777));
        assert_eq!(started_in("Z    Sun Nov  6 08:49:37 1994    \n"), None);
        for nothing in ["", "\n", "{ }", "Ss", "Ss today"] {
            let read = (booted_in(nothing), machine_in(nothing), started_in(nothing));
            assert_eq!(read, (None, None, None), "{nothing}");
        }
    }

    /// By the `ps` of whatever this is: its columns and its dates are POSIX' and asctime's.
    #[test]
    fn a_process_has_started_when_ps_says_so() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        match started(std::process::id()) {
            Ok(started) => {
                assert!(started.is_some_and(|at| at.abs_diff(now) < 86_400), "{started:?}");
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
        }
        let mut child = Command::new("true").spawn().unwrap();
        let ended = child.id();
        child.wait().unwrap();
        assert_eq!(started(ended).unwrap_or_default(), None);
    }
}
