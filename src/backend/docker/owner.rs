//! Who launched a bottle: enough to tell later whether that process still lives, and whether it can be told here.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;

/// A process of some host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    boot: String,
    pid_namespace: u64,
    pid: u32,
    /// In clock ticks since the boot; see proc_pid_stat(5).
    started: u64,
}

/// What is known of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Alive,
    /// It ran here, and has ended.
    Dead,
    /// Another boot or host, or another PID namespace: it cannot be told from here.
    Foreign,
}

impl Owner {
    /// This process.
    pub fn this() -> io::Result<Self> {
        let pid = std::process::id();
        let started = started(pid)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { boot: boot()?, pid_namespace: pid_namespace()?, pid, started })
    }

    /// Its PID, in its own PID namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What is known of it here and now.
    pub fn state(&self) -> io::Result<State> {
        if self.boot != boot()? || self.pid_namespace != pid_namespace()? {
            return Ok(State::Foreign);
        }
        let lives = started(self.pid)? == Some(self.started);
        Ok(if lives { State::Alive } else { State::Dead })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boot, pid_namespace, pid, started } = self;
        write!(f, "{boot}:{pid_namespace}:{pid}:{started}")
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(());
        let owner = Self {
            boot: next()?.to_owned(),
            pid_namespace: next()?.parse().map_err(|_| ())?,
            pid: next()?.parse().map_err(|_| ())?,
            started: next()?.parse().map_err(|_| ())?,
        };
        if parts.next().is_some() { Err(()) } else { Ok(owner) }
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn pid_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

/// When a process started, none if there is none. A zombie has ended.
fn started(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // It ended while it was looked at.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Its name may hold anything; fields count from the last parenthesis, where 3 is the state and 22 the start.
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return Ok(None);
    }
    Ok(fields.get(19).and_then(|field| field.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_can_be_written_down() {
        let this = Owner::this().unwrap();
        assert_eq!(this.to_string().parse(), Ok(this.clone()));
        assert_eq!(this.state().unwrap(), State::Alive);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let this = Owner::this().unwrap();
        let before = Owner { started: this.started - 1, ..this.clone() };
        assert_eq!(before.state().unwrap(), State::Dead);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(Owner { pid, ..this }.state().unwrap(), State::Dead);
    }

    #[test]
    fn of_other_hosts_and_namespaces_nothing_is_known() {
        let this = Owner::this().unwrap();
        let boot = Owner { boot: "another".into(), ..this.clone() };
        assert_eq!(boot.state().unwrap(), State::Foreign);
        let inside = Owner { pid_namespace: 1, ..this };
        assert_eq!(inside.state().unwrap(), State::Foreign);
    }

    #[test]
    fn nonsense_is_no_owner() {
        for text in ["", "a:b:c:d", "a:1:2", "a:1:2:3:4", "a:1:-2:3"] {
            assert_eq!(text.parse::<Owner>(), Err(()), "{text}");
        }
    }
}
