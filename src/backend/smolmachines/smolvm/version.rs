//! Versions of smolvm, and what each of them does with our flags.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The variable that launches bottles with a smolvm that drops the allow-list.
pub const UNENFORCED: &str = "CLAUDE_BOTTLE_SMOLVM_UNENFORCED";

/// A version of smolvm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Major, minor and patch.
    pub numbers: (u32, u32, u32),
}

/// What smolvm says of its version is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("smolvm says of its version {said:?}, where `smolvm 1.2.3` is expected")]
pub struct NoVersion {
    /// What it says.
    pub said: String,
}

/// A smolvm whose machines would not have the allow-list of their plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "smolvm {version} drops `--allow-cidr` of a machine that is made from a pack, and says nothing \
     (install smolvm {} or newer, or set {UNENFORCED}=1 to launch it without an allow-list)",
    Version::KEEPS_ALLOW_LIST
)]
pub struct Unenforced {
    /// Its version.
    pub version: Version,
}

impl Version {
    /// The first that takes a machine's name as `--name` everywhere; positional names are refused from then on.
    const NAMES_BY_FLAG: Self = Self::new(1, 0, 2);
    /// The first in which `machine create --from` keeps `--allow-cidr`.
    pub const KEEPS_ALLOW_LIST: Self = Self::new(1, 8, 0);
    /// The first that is known to have `machine create --label`; 1.4.0 has not.
    const HAS_LABELS: Self = Self::new(1, 8, 0);
    /// The first with `machine cp --mode`.
    pub const COPIES_MODES: Self = Self::new(1, 9, 0);
    /// The first whose monitor opens at its host's 127.0.0.1 what a machine dials at the monitor's own address.
    pub const REACHES_LOOPBACK: Self = Self::new(1, 7, 2);
    /// The first whose `machine create --image` takes an archive.
    pub const TAKES_ARCHIVES: Self = Self::new(1, 1, 0);
    /// The first that is known to pack the archive of an image; 1.9 takes the path for a reference and asks a registry.
    pub const PACKS_ARCHIVES: Self = Self::new(1, 32, 0);
    /// The first that is known to keep a machine with plain `--net` from its host's own loopback; 1.9.1 does not.
    const CLOSES_LOOPBACK: Self = Self::new(1, 32, 0);
    /// The newest whose machines were probed.
    pub const SEEN: Self = Self::new(1, 32, 2);

    /// Such a version.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { numbers: (major, minor, patch) }
    }

    /// Whether `machine create` and `machine delete` take the name as `--name`, not as a positional argument.
    pub fn names_by_flag(self) -> bool {
        self >= Self::NAMES_BY_FLAG
    }

    /// Whether a machine from a pack has the allow-list that it is created with.
    pub fn keeps_allow_list(self) -> bool {
        self >= Self::KEEPS_ALLOW_LIST
    }

    /// Whether `machine create` takes `--label`.
    pub fn has_labels(self) -> bool {
        self >= Self::HAS_LABELS
    }

    /// Whether `machine cp` takes `--mode`.
    pub fn copies_modes(self) -> bool {
        self >= Self::COPIES_MODES
    }

    /// Whether a machine comes to its host's loopback by its monitor's address.
    pub fn reaches_loopback(self) -> bool {
        self >= Self::REACHES_LOOPBACK
    }

    /// Whether `machine create --image` takes an archive of an image.
    pub fn takes_archives(self) -> bool {
        self >= Self::TAKES_ARCHIVES
    }

    /// Whether `pack create` takes an archive of an image.
    pub fn packs_archives(self) -> bool {
        self >= Self::PACKS_ARCHIVES
    }

    /// Whether a machine whose system calls are passed on is kept from the loopback of its host.
    pub fn closes_loopback(self) -> bool {
        self >= Self::CLOSES_LOOPBACK
    }

    /// Refuses a version that drops the allow-list, unless `unenforced` says that this is wanted.
    pub fn gate(self, unenforced: bool) -> Result<(), Unenforced> {
        if unenforced || self.keeps_allow_list() {
            Ok(())
        } else {
            Err(Unenforced { version: self })
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.numbers;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for Version {
    type Err = NoVersion;

    /// Reads `smolvm 1.32.2`, as `smolvm --version` prints it; a suffix such as `-rc.1` is left out.
    fn from_str(said: &str) -> Result<Self, NoVersion> {
        let said = said.trim();
        let wrong = || NoVersion { said: said.chars().take(80).collect() };
        let numbers = said.strip_prefix("smolvm ").ok_or_else(wrong)?;
        let numbers = numbers.split(['-', '+']).next().unwrap_or_default();
        let numbers: Vec<u32> = numbers
            .split('.')
            .map(|number| number.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        match numbers[..] {
            [major, minor, patch] => Ok(Self::new(major, minor, patch)),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_smolvm_prints_is_read() {
        for (said, version) in [
            ("smolvm 0.8.0", Some((0, 8, 0))),
            ("smolvm 1.32.2\n", Some((1, 32, 2))),
            ("smolvm 1.9.0-rc.1", Some((1, 9, 0))),
            ("smolvm 1.9", None),
            ("smolvm one", None),
            ("1.9.1", None),
            ("", None),
        ] {
            let read = said.parse::<Version>().ok().map(|version| version.numbers);
            assert_eq!(read, version, "{said:?}");
        }
    }

    #[test]
    fn a_version_that_drops_the_allow_list_is_refused_with_its_reason() {
        for old in [Version::new(0, 8, 0), Version::new(1, 4, 0), Version::new(1, 7, 9)] {
            assert_eq!(old.gate(false), Err(Unenforced { version: old }));
            assert_eq!(old.gate(true), Ok(()));
        }
        for right in [Version::new(1, 8, 0), Version::new(1, 9, 1), Version::new(1, 32, 2)] {
            assert_eq!(right.gate(false), Ok(()));
        }
        let reason = Version::new(0, 8, 0).gate(false).map_err(|error| error.to_string());
        insta::assert_snapshot!(reason.unwrap_err());
    }
}
