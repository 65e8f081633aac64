//! What smolvm answers: its machines, and whether an exit code is the guest's or its own.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

/// A machine, as `machine ls --json` tells of it. Keys that are not known here are left out: each release adds some.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// `created`, `running`, `stopped`, or another word of a newer release.
    pub state: String,
    /// Whether it has a network.
    #[serde(default)]
    pub network: bool,
    /// Its allow-list, where the release tells (1.32 does, 1.9 does not).
    #[serde(default)]
    pub allowed_cidrs: Option<Vec<String>>,
    /// What was written down with it, where the release has labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The process that it runs in, as its host counts; an old number where it was killed.
    #[serde(default)]
    pub pid: Option<u32>,
    /// When it was made, in seconds since the epoch; where it is told so.
    #[serde(default, rename = "created_at", deserialize_with = "seconds")]
    pub created: Option<u64>,
}

/// A number of seconds; whatever else a release may write there is none.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(serde_json::Value::deserialize(deserializer)?.as_u64())
}

/// The answer is not what `machine ls --json` prints.
#[derive(Debug, Error)]
#[error("`smolvm machine ls --json` printed something else than a list of machines")]
pub struct NotMachines(#[from] serde_json::Error);

/// Reads the answer of `machine ls --json`.
pub fn machines(json: &[u8]) -> Result<Vec<Machine>, NotMachines> {
    Ok(serde_json::from_slice(json)?)
}

/// How `machine exec` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The command ended with this code.
    Command(i32),
    /// The command took longer than it might.
    TimedOut,
    /// The command was killed by a signal.
    Killed,
    /// There is no such command, or it cannot be started.
    NotStarted,
    /// More output than smolvm collects, 11 MiB, which cut the rest off.
    Cut,
    /// smolvm itself failed, and says why.
    Smolvm(String),
}

/// What an exit code of `machine exec` and what was written to standard error say together. A guest may end with 1 as
/// well as smolvm does: only the line `Error: …`, which smolvm writes last, tells them apart. A guest can forge that,
/// and then is told to have failed, which it has.
pub fn ended(code: i32, stderr: &[u8]) -> Ended {
    let text = String::from_utf8_lossy(stderr);
    let last = text.trim_end().lines().last().unwrap_or_default();
    match (code, last.strip_prefix("Error: ")) {
        (1, Some(why)) => Ended::Smolvm(why.to_owned()),
        (2, _) if last.starts_with("For more information, try") => {
            Ended::Smolvm("wrong usage".to_owned())
        }
        (124, _) => Ended::TimedOut,
        (137, _) => Ended::Killed,
        (141, _) => Ended::Cut,
        (255, _) => Ended::NotStarted,
        _ => Ended::Command(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_every_release_are_read() {
        let json = br#"[{"name":"m1","state":"running","pid":7,"image":null,"network":true,
            "labels":{},"allowed_cidrs":["10.0.0.5/32"],"cuda":false,"created_at":1795629497},
            {"name":"m2","state":"frozen","created_at":"1795629497"}]"#;
        let machine = |name: &str, state: &str, network, allowed: Option<&[&str]>| Machine {
            name: name.to_owned(),
            state: state.to_owned(),
            network,
            allowed_cidrs: allowed.map(|all| all.iter().map(ToString::to_string).collect()),
            labels: BTreeMap::new(),
            pid: (name == "m1").then_some(7),
            created: (name == "m1").then_some(1_795_629_497),
        };
        assert_eq!(
            machines(json).unwrap(),
            [
                machine("m1", "running", true, Some(&["10.0.0.5/32"])),
                machine("m2", "frozen", false, None)
            ]
        );
        assert_eq!(machines(b"[]").unwrap(), []);
        assert!(machines(b"No machines").is_err());
        assert!(machines(b"{}").is_err());
    }

    #[test]
    fn a_guests_code_is_told_from_smolvms_own() {
        for (code, stderr, meant) in [
            (0, "", Ended::Command(0)),
            (1, "", Ended::Command(1)),
            (1, "grep: no such file\n", Ended::Command(1)),
            (1, "Error: vm not found: x1\n", Ended::Smolvm("vm not found: x1".to_owned())),
            (2, "ls: cannot access\n", Ended::Command(2)),
            (
                2,
                "error: x\n\nFor more information, try '--help'.\n",
                Ended::Smolvm("wrong usage".to_owned()),
            ),
            (42, "Error: of the guest\n", Ended::Command(42)),
            (124, "", Ended::TimedOut),
            (137, "", Ended::Killed),
            (141, "", Ended::Cut),
            (255, "", Ended::NotStarted),
        ] {
            assert_eq!(ended(code, stderr.as_bytes()), meant, "{code} {stderr:?}");
        }
    }
}
