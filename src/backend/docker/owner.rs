//! Who launched a bottle: enough to tell later whether that process still lives, and whether it can be told here.

#[cfg_attr(target_os = "linux", path = "owner/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "owner/mac.rs")]
mod here;
// What is read there is the same wherever it is read.
#[cfg(all(test, target_os = "linux"))]
#[path = "owner/mac.rs"]
#[expect(dead_code, reason = "only what is read of what its programs print is tried")]
mod mac;

use std::fmt::{self, Write as _};
use std::io;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use self::here::{boot, pid_namespace, started};
/// What stands for a machine that has no identity.
const NO_MACHINE: &str = "-";

/// A process of some host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// A hash of the machine's identity.
    machine: String,
    boot: String,
    pid_namespace: u64,
    pid: u32,
    /// In clock ticks since the boot, see proc_pid_stat(5); on a Mac in seconds since 1970.
    started: u64,
}

/// What is known of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Alive,
    /// It ran here, and has ended.
    Dead,
    /// It ran on a machine with this one's identity, before the last boot. Copies of a machine may have one identity.
    BeforeBoot,
    /// It runs, or ran, in a PID namespace that cannot be looked into from here.
    OtherNamespace,
    /// It runs, or ran, on another machine.
    OtherMachine,
    /// What it is called means nothing here.
    Unreadable,
}

/// Whether somebody holds what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Its launcher runs.
    Live,
    /// Nobody does.
    Left,
    /// It cannot be told from here, for this reason.
    Undecided(&'static str),
}

/// What a launch has made, as far as it says whether somebody still holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traces<'a> {
    /// Who launched it, as a label says: text of whoever made it.
    pub owner: &'a str,
    /// Whether any of it runs.
    pub runs: bool,
    /// When the last of it was made.
    pub grown: Option<SystemTime>,
}

impl Traces<'_> {
    /// The launcher's PID, in that one's PID namespace.
    pub fn pid(&self) -> Option<u32> {
        Some(self.owner.parse::<Owner>().ok()?.pid())
    }

    /// Whether somebody holds it, seen from here and now.
    pub fn held(&self) -> Held {
        let owner = self.owner.parse::<Owner>().ok();
        let state = owner.and_then(|owner| owner.state().ok()).unwrap_or(State::Unreadable);
        self.held_by(state, booted())
    }

    fn held_by(&self, state: State, booted: Option<SystemTime>) -> Held {
        match state {
            State::Alive => Held::Live,
            // A launcher that lives has something that runs, or is about to: nothing of it is older than its boot.
            State::BeforeBoot if self.runs => Held::Undecided(
                "its launcher had this machine's identity before the last boot, yet it runs",
            ),
            State::BeforeBoot
                if booted.zip(self.grown).is_none_or(|(boot, grown)| grown >= boot) =>
            {
                Held::Undecided(
                    "its launcher has this machine's identity and another boot, and made it after this one's",
                )
            }
            State::Dead | State::BeforeBoot => Held::Left,
            State::OtherNamespace => Held::Undecided(
                "its launcher is in another PID namespace: try it there, or as root outside of all of them",
            ),
            State::OtherMachine => Held::Undecided(
                "its launcher is on another machine, or this one has no identity, such as machine-id(5)",
            ),
            State::Unreadable => Held::Undecided("who launched it cannot be read from its labels"),
        }
    }
}

impl Owner {
    /// This process.
    pub fn this() -> io::Result<Self> {
        let pid = std::process::id();
        let started = started(pid)?.ok_or(io::ErrorKind::NotFound)?;
        let machine = machine();
        Ok(Self { machine, boot: boot()?, pid_namespace: pid_namespace()?, pid, started })
    }

    /// Its PID, in its own PID namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What is known of it here and now.
    pub fn state(&self) -> io::Result<State> {
        if self.boot != boot()? {
            let same = self.machine != NO_MACHINE && self.machine == machine();
            return Ok(if same { State::BeforeBoot } else { State::OtherMachine });
        }
        if self.pid_namespace != pid_namespace()? {
            let gone = here::is_gone(self.pid_namespace)?;
            return Ok(if gone { State::Dead } else { State::OtherNamespace });
        }
        let lives = started(self.pid)? == Some(self.started);
        Ok(if lives { State::Alive } else { State::Dead })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, boot, pid_namespace, pid, started } = self;
        write!(f, "{machine}:{boot}:{pid_namespace}:{pid}:{started}")
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(());
        let owner = Self {
            machine: next()?.to_owned(),
            boot: next()?.to_owned(),
            pid_namespace: next()?.parse().map_err(|_| ())?,
            pid: next()?.parse().map_err(|_| ())?,
            started: next()?.parse().map_err(|_| ())?,
        };
        if parts.next().is_some() { Err(()) } else { Ok(owner) }
    }
}

/// When this machine was booted, to the second.
pub fn booted() -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(here::booted()?))
}

/// What tells this machine from others, from one boot to the next; its identity itself is not to be shown to others.
fn machine() -> String {
    let Some(id) = here::machine() else { return NO_MACHINE.to_owned() };
    let hash = Sha256::digest(format!("claude-bottle owner {id}"));
    hash.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
    fn of_another_machine_nothing_is_known() {
        let this = Owner::this().unwrap();
        let elsewhere = Owner { boot: "another".into(), machine: "another".into(), ..this.clone() };
        assert_eq!(elsewhere.state().unwrap(), State::OtherMachine);
        // Machines without an identity are not all the same one.
        let nameless = Owner { boot: "another".into(), machine: NO_MACHINE.into(), ..this };
        assert_eq!(nameless.state().unwrap(), State::OtherMachine);
    }

    #[test]
    fn another_boot_of_this_machine_is_known_where_the_machine_has_an_identity() {
        let before = Owner { boot: "another".into(), ..Owner::this().unwrap() };
        let expected =
            if machine() == NO_MACHINE { State::OtherMachine } else { State::BeforeBoot };
        assert_eq!(before.state().unwrap(), expected);
        assert!(booted().unwrap() < SystemTime::now());
    }

    #[test]
    fn a_namespace_of_processes_is_gone_with_the_last_of_them() {
        let this = Owner::this().unwrap();
        // Numbers of namespaces begin at `PROC_DYNAMIC_FIRST`: none ever has this one.
        let inside = Owner { pid_namespace: 1, ..this.clone() };
        let sees_all = here::sees_all().unwrap() && nix::unistd::geteuid().is_root();
        let expected = if sees_all { State::Dead } else { State::OtherNamespace };
        assert_eq!(inside.state().unwrap(), expected);
        assert!(!here::is_gone(this.pid_namespace).unwrap(), "this very process is in it");
    }

    #[test]
    fn after_a_boot_what_neither_runs_nor_is_newer_was_left() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let held = |runs, grown: Option<u64>, boot: Option<u64>| {
            let traces = Traces { owner: "", runs, grown: grown.map(at) };
            traces.held_by(State::BeforeBoot, boot.map(at))
        };
        assert_eq!(held(false, Some(999), Some(1000)), Held::Left);
        for (runs, made) in [(true, Some(999)), (false, Some(1000)), (false, None)] {
            assert!(matches!(held(runs, made, Some(1000)), Held::Undecided(_)), "{runs} {made:?}");
        }
        assert!(matches!(held(false, Some(1000), None), Held::Undecided(_)));
    }

    #[test]
    fn nothing_of_a_live_or_an_unknown_owner_is_left() {
        let traces = Traces { owner: "", runs: false, grown: None };
        let held = |state| traces.held_by(state, None);
        assert_eq!((held(State::Alive), held(State::Dead)), (Held::Live, Held::Left));
        for state in [State::OtherNamespace, State::OtherMachine, State::Unreadable] {
            assert!(matches!(held(state), Held::Undecided(_)), "{state:?}");
        }
        assert_eq!(traces.held(), held(State::Unreadable), "without a label");
    }

    #[test]
    fn nonsense_is_no_owner() {
        for text in ["", "m:a:b:c:d", "m:a:1:2", "m:a:1:2:3:4", "m:a:1:-2:3", "a:1:2:3"] {
            assert_eq!(text.parse::<Owner>(), Err(()), "{text}");
        }
    }
}
