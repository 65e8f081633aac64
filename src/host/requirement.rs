//! Requirements: the single things that a host must have, and the reason why one is unmet.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::facts::{Host, Lack};

/// One thing that a host must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Requirement {
    /// macOS.
    Darwin,
    /// Linux.
    Linux,
    /// The program `smolvm`.
    Smolvm,
    /// The switch `CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1`.
    SmolvmOnLinux,
    /// A Docker daemon.
    Docker,
    /// A usable `/dev/kvm`.
    Kvm,
    /// The right to make user namespaces.
    UserNamespaces,
    /// Not a job of Gitea Actions.
    NotGitea,
    /// The loopback transport of vsock.
    VsockLoopback,
    /// A kernel that speaks IPv6.
    Ipv6,
    /// User id 0.
    Root,
}

/// A word that names no [`Requirement`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown requirement `{word}`; known: {}", Requirement::words().join(", "))]
pub struct UnknownRequirement {
    /// The word.
    pub word: String,
}

/// A requirement that is not met; `Display` gives the reason as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// This.
    One {
        /// What is needed, such as `docker: permission denied on /var/run/docker.sock`.
        what: String,
        /// What to do about it.
        fix: Option<String>,
        /// Whether the reason says enough without the fix.
        terse: bool,
    },
    /// Every alternative, each for all the reasons in its list.
    AnyOf(Vec<Vec<Unmet>>),
}

impl Requirement {
    /// Every requirement.
    pub const ALL: [Self; 11] = [
        Self::Darwin,
        Self::Linux,
        Self::Smolvm,
        Self::SmolvmOnLinux,
        Self::Docker,
        Self::Kvm,
        Self::UserNamespaces,
        Self::NotGitea,
        Self::VsockLoopback,
        Self::Ipv6,
        Self::Root,
    ];

    /// The word for it in definitions and reasons.
    pub fn word(self) -> &'static str {
        match self {
            Self::Darwin => "darwin",
            Self::Linux => "linux",
            Self::Smolvm => "smolvm",
            Self::SmolvmOnLinux => "smolvm-on-linux",
            Self::Docker => "docker",
            Self::Kvm => "kvm",
            Self::UserNamespaces => "user-namespaces",
            Self::NotGitea => "not-gitea",
            Self::VsockLoopback => "vsock-loopback",
            Self::Ipv6 => "ipv6",
            Self::Root => "root",
        }
    }

    /// The words of all requirements.
    pub fn words() -> Vec<&'static str> {
        Self::ALL.map(Self::word).to_vec()
    }

    /// Whether it is no property of the machine but a decision of the person at it.
    pub fn is_switch(self) -> bool {
        self == Self::SmolvmOnLinux
    }

    /// The reason why `host` does not meet it, such as `needs darwin (this is linux)`; none if it does.
    pub fn unmet(&self, host: &Host) -> Option<String> {
        self.lack(host).map(|unmet| unmet.to_string())
    }

    /// The same as data.
    pub(super) fn lack(self, host: &Host) -> Option<Unmet> {
        let terse =
            |what: String, fix: &str| Unmet::One { what, fix: Some(fix.to_owned()), terse: true };
        let lacking = |lack: &Lack| Unmet::One {
            what: format!("{self}: {}", lack.why),
            fix: lack.fix.clone(),
            terse: false,
        };
        match self {
            Self::Darwin => (!host.darwin()).then(|| {
                terse(
                    format!("darwin (this is {})", host.system()),
                    "run on a Mac, or on Linux with KVM set CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1",
                )
            }),
            Self::Linux => (!host.linux()).then(|| {
                terse(
                    format!("linux (this is {})", host.system()),
                    "run on Linux, or in a virtual machine with it",
                )
            }),
            Self::Smolvm => {
                let lack = host.smolvm.as_ref().err()?;
                Some(Unmet::One {
                    what: "smolvm on PATH".to_owned(),
                    fix: lack.fix.clone(),
                    terse: true,
                })
            }
            Self::SmolvmOnLinux => (!host.smolvm_on_linux).then(|| Unmet::One {
                what: "CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1".to_owned(),
                fix: None,
                terse: true,
            }),
            Self::Docker => host.docker.as_ref().err().map(lacking),
            Self::Kvm => host.kvm.as_ref().err().map(lacking),
            Self::UserNamespaces => host.user_namespaces.as_ref().err().map(lacking),
            Self::NotGitea => host.gitea.then(|| {
                terse(
                    "a runner that is not Gitea (GITEA_ACTIONS=true)".to_owned(),
                    "run it outside of Gitea Actions",
                )
            }),
            Self::VsockLoopback => (!host.vsock_loopback).then(|| {
                lacking(
                    &Lack::new("the kernel has not loaded it")
                        .fixed_by("as root: modprobe vsock_loopback"),
                )
            }),
            Self::Ipv6 => (!host.ipv6).then(|| {
                lacking(
                    &Lack::new("the kernel has it switched off")
                        .fixed_by("boot without ipv6.disable=1"),
                )
            }),
            Self::Root => (host.euid != 0)
                .then(|| terse(format!("root (this is uid {})", host.euid), "run as root")),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

impl FromStr for Requirement {
    type Err = UnknownRequirement;

    fn from_str(word: &str) -> Result<Self, UnknownRequirement> {
        Self::ALL
            .into_iter()
            .find(|requirement| requirement.word() == word)
            .ok_or_else(|| UnknownRequirement { word: word.to_owned() })
    }
}

impl Unmet {
    /// The reason without the `needs` in front.
    fn what(&self) -> String {
        match self {
            Self::One { what, fix: Some(fix), terse: false } => format!("{what} ({fix})"),
            Self::One { what, .. } => what.clone(),
            Self::AnyOf(alternatives) => alternatives
                .iter()
                .map(|unmet| join(unmet, " and ", Self::what))
                .collect::<Vec<_>>()
                .join(", or "),
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "needs {}", self.what())
    }
}

pub(super) fn join(unmet: &[Unmet], between: &str, text: impl Fn(&Unmet) -> String) -> String {
    unmet.iter().map(text).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        for requirement in Requirement::ALL {
            assert_eq!(requirement.to_string().parse(), Ok(requirement));
        }
        assert_eq!(
            "Docker".parse::<Requirement>().map_err(|e| e.to_string()),
            Err("unknown requirement `Docker`; known: darwin, linux, smolvm, smolvm-on-linux, docker, kvm, \
                 user-namespaces, not-gitea, vsock-loopback, ipv6, root"
                .to_owned())
        );
    }

    #[test]
    fn each_is_met_by_a_host_that_has_it() {
        for requirement in Requirement::ALL {
            assert_eq!(requirement.unmet(&Host::bare().with(requirement)), None);
        }
    }

    #[test]
    fn the_reason_of_each() {
        let bare = Host {
            docker: Err(Lack::new("permission denied on /var/run/docker.sock")
                .fixed_by("add yourself to the group docker, or run as root")),
            kvm: Err(Lack::new("/dev/kvm does not exist")),
            user_namespaces: Err(Lack::new("user.max_user_namespaces is 0")
                .fixed_by("as root: sysctl -w user.max_user_namespaces=15000")),
            gitea: true,
            ..Host::bare()
        };
        for (requirement, reason) in [
            (Requirement::Darwin, "needs darwin (this is linux)"),
            (Requirement::Smolvm, "needs smolvm on PATH"),
            (Requirement::SmolvmOnLinux, "needs CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1"),
            (
                Requirement::Docker,
                "needs docker: permission denied on /var/run/docker.sock \
                 (add yourself to the group docker, or run as root)",
            ),
            (Requirement::Kvm, "needs kvm: /dev/kvm does not exist"),
            (
                Requirement::UserNamespaces,
                "needs user-namespaces: user.max_user_namespaces is 0 \
                 (as root: sysctl -w user.max_user_namespaces=15000)",
            ),
            (Requirement::NotGitea, "needs a runner that is not Gitea (GITEA_ACTIONS=true)"),
            (
                Requirement::VsockLoopback,
                "needs vsock-loopback: the kernel has not loaded it (as root: modprobe vsock_loopback)",
            ),
            (
                Requirement::Ipv6,
                "needs ipv6: the kernel has it switched off (boot without ipv6.disable=1)",
            ),
            (Requirement::Root, "needs root (this is uid 1000)"),
        ] {
            assert_eq!(requirement.unmet(&bare).as_deref(), Some(reason));
        }
        assert_eq!(
            Requirement::Linux.unmet(&bare.with(Requirement::Darwin)).as_deref(),
            Some("needs linux (this is darwin)")
        );
    }
}
