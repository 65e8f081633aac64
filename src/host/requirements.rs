//! Requirements together: all of several, any of several; and what the backends need.

use super::facts::Host;
use super::requirement::{Requirement, Unmet, join};

/// What something needs of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirements {
    /// This.
    One(Requirement),
    /// The opposite of this.
    Not(Requirement),
    /// All of these; of nothing: no needs.
    All(Vec<Requirements>),
    /// At least one of these.
    ///
    /// An alternative whose switch is off (see [`Requirement::is_switch`]) is not mentioned among the reasons.
    Any(Vec<Requirements>),
}

impl Requirements {
    /// No needs.
    pub const NONE: Self = Self::All(Vec::new());

    /// What the backend of this name needs. One that is not known here needs nothing.
    pub fn for_backend(name: &str) -> Self {
        use Requirement::{
            Darwin, Docker, Kvm, Linux, NotGitea, Smolvm, SmolvmOnLinux, UserNamespaces,
        };
        match name {
            "namespace" => [Linux, UserNamespaces].into_iter().collect(),
            "docker" => [Docker, NotGitea].into_iter().collect(),
            "smolmachines" => {
                let on_linux = [Linux, SmolvmOnLinux, Kvm].into_iter().collect();
                Self::Any(vec![Darwin.into(), on_linux])
                    .and([Smolvm, Docker, NotGitea].into_iter().collect())
            }
            _ => Self::NONE,
        }
    }

    /// These and also `others`.
    pub fn and(self, others: Self) -> Self {
        Self::All(vec![self, others])
    }

    /// Every reason why `host` does not meet them, in the order in which they are stated, each once; empty if it
    /// does.
    pub fn unmet(&self, host: &Host) -> Vec<Unmet> {
        match self {
            Self::One(requirement) => requirement.lack(host).into_iter().collect(),
            Self::Not(requirement) => match requirement.lack(host) {
                Some(_) => Vec::new(),
                None => vec![Unmet::One {
                    what: format!("a host without {requirement}"),
                    fix: None,
                    terse: true,
                }],
            },
            Self::All(all) => {
                let mut reasons = Vec::new();
                for unmet in all.iter().flat_map(|each| each.unmet(host)) {
                    if !reasons.contains(&unmet) {
                        reasons.push(unmet);
                    }
                }
                reasons
            }
            Self::Any(alternatives) => {
                let unmet = |each: &Self| each.unmet(host);
                let reasons: Vec<_> = alternatives.iter().map(unmet).collect();
                if reasons.iter().any(Vec::is_empty) {
                    return Vec::new();
                }
                let mut offered: Vec<_> = alternatives
                    .iter()
                    .filter(|each| !each.is_switched_off(host))
                    .map(unmet)
                    .collect();
                if offered.is_empty() {
                    offered = reasons;
                }
                match offered.as_mut_slice() {
                    [only] => std::mem::take(only),
                    _ => vec![Unmet::AnyOf(offered)],
                }
            }
        }
    }

    /// The reasons in one line, such as `needs darwin (this is linux); needs smolvm on PATH`; none if all is met.
    pub fn reason(&self, host: &Host) -> Option<String> {
        let unmet = self.unmet(host);
        (!unmet.is_empty()).then(|| join(&unmet, "; ", Unmet::to_string))
    }

    /// Whether a switch that they need is off.
    fn is_switched_off(&self, host: &Host) -> bool {
        match self {
            Self::One(requirement) => requirement.is_switch() && requirement.lack(host).is_some(),
            Self::Not(_) => false,
            Self::All(all) => all.iter().any(|each| each.is_switched_off(host)),
            Self::Any(any) => any.iter().all(|each| each.is_switched_off(host)),
        }
    }
}

impl From<Requirement> for Requirements {
    fn from(requirement: Requirement) -> Self {
        Self::One(requirement)
    }
}

impl FromIterator<Requirement> for Requirements {
    fn from_iter<T: IntoIterator<Item = Requirement>>(all: T) -> Self {
        Self::All(all.into_iter().map(Self::One).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Requirement::{Darwin, Docker, Ipv6, Kvm, Linux, NotGitea, Root, Smolvm, SmolvmOnLinux};

    fn all(requirements: &[Requirement]) -> Requirements {
        requirements.iter().copied().collect()
    }

    fn any(requirements: &[Requirement]) -> Requirements {
        Requirements::Any(requirements.iter().copied().map(Into::into).collect())
    }

    fn host(requirements: &[Requirement]) -> Host {
        requirements.iter().fold(Host::bare(), |host, requirement| host.with(*requirement))
    }

    #[test]
    fn all_name_every_reason_once_and_in_order() {
        let needs = all(&[Root, Linux, Smolvm]).and(all(&[Darwin, Root]));
        assert_eq!(
            needs.reason(&Host::bare()).as_deref(),
            Some(
                "needs root (this is uid 1000); needs smolvm on PATH; needs darwin (this is linux)"
            )
        );
        assert_eq!(Requirements::NONE.reason(&Host::bare()), None);
    }

    #[test]
    fn any_needs_one() {
        let needs = any(&[Darwin, Root]);
        assert_eq!(needs.reason(&host(&[Darwin])), None);
        assert_eq!(needs.reason(&host(&[Root])), None);
        assert_eq!(
            needs.reason(&Host::bare()).as_deref(),
            Some("needs darwin (this is linux), or root (this is uid 1000)")
        );
        let needs = Requirements::Any(vec![all(&[Smolvm, Darwin]), Root.into()]);
        assert_eq!(
            needs.reason(&Host::bare()).as_deref(),
            Some("needs smolvm on PATH and darwin (this is linux), or root (this is uid 1000)")
        );
    }

    #[test]
    fn an_alternative_whose_switch_is_off_goes_unmentioned() {
        let needs = Requirements::Any(vec![Darwin.into(), all(&[SmolvmOnLinux, Root])]);
        assert_eq!(needs.reason(&Host::bare()).as_deref(), Some("needs darwin (this is linux)"));
        assert_eq!(
            needs.reason(&host(&[SmolvmOnLinux])).as_deref(),
            Some("needs darwin (this is linux), or root (this is uid 1000)")
        );
        assert_eq!(
            any(&[SmolvmOnLinux]).reason(&Host::bare()).as_deref(),
            Some("needs CLAUDE_BOTTLE_SMOLVM_ON_LINUX=1"),
            "unless there is nothing else to say"
        );
    }

    #[test]
    fn not_is_the_opposite() {
        for requirement in Requirement::ALL {
            for host in [Host::bare(), host(&Requirement::ALL)] {
                assert_ne!(
                    Requirements::Not(requirement).reason(&host).is_some(),
                    requirement.unmet(&host).is_some(),
                    "{requirement}"
                );
            }
        }
        assert_eq!(
            Requirements::Not(Root).reason(&host(&[Root])).as_deref(),
            Some("needs a host without root")
        );
    }

    #[test]
    fn what_the_backends_need() {
        use Requirement::UserNamespaces;
        let gitea = |host: Host| Host { gitea: true, ..host };
        let missing = "made up without it";
        for (backend, host, reason) in [
            ("namespace", host(&[UserNamespaces]), None),
            (
                "namespace",
                host(&[Darwin]),
                Some(format!("needs linux (this is darwin); needs user-namespaces: {missing}")),
            ),
            ("docker", host(&[Docker]), None),
            ("docker", host(&[Docker, Darwin]), None),
            (
                "docker",
                gitea(Host::bare()),
                Some(format!(
                    "needs docker: {missing}; needs a runner that is not Gitea (GITEA_ACTIONS=true)"
                )),
            ),
            ("smolmachines", host(&[Darwin, Smolvm, Docker]), None),
            (
                "smolmachines",
                gitea(Host::bare()),
                Some(format!(
                    "needs darwin (this is linux); needs smolvm on PATH; needs docker: {missing}; \
                     needs a runner that is not Gitea (GITEA_ACTIONS=true)"
                )),
            ),
            (
                "smolmachines",
                host(&[Kvm, Smolvm, Docker]),
                Some("needs darwin (this is linux)".to_owned()),
            ),
            (
                "smolmachines",
                host(&[SmolvmOnLinux, Smolvm, Docker]),
                Some(format!("needs darwin (this is linux), or kvm: {missing}")),
            ),
            ("smolmachines", host(&[SmolvmOnLinux, Kvm, Smolvm, Docker]), None),
            ("external", Host::bare(), None),
        ] {
            let needs = Requirements::for_backend(backend);
            assert_eq!(needs.reason(&host), reason, "{backend} on {host:?}");
        }
        let with_a_probe = Requirements::for_backend("namespace").and(all(&[Ipv6, NotGitea]));
        assert_eq!(
            with_a_probe.reason(&host(&[UserNamespaces])).as_deref(),
            Some("needs ipv6: the kernel has it switched off (boot without ipv6.disable=1)")
        );
    }
}
