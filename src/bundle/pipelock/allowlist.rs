//! What a bottle may reach, and who said so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Serialize, Serializer};

use super::host::Host;

/// The ports that are meant where none are named: HTTPS and HTTP.
pub const USUAL_PORTS: [u16; 2] = [80, 443];

/// Ports, at least one.
pub type Ports = BTreeSet<u16>;

/// Who wants something to be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Source {
    /// The program that the agent runs cannot work without it.
    BuiltIn {
        /// The program.
        program: String,
    },
    /// The bottle's `egress`.
    Egress {
        /// The line in the manifest.
        line: usize,
    },
    /// The bottle's `ssh`.
    Ssh {
        /// The line in the manifest.
        line: usize,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn { program } => write!(f, "built in for {program}"),
            Self::Egress { line } => write!(f, "egress, line {line}"),
            Self::Ssh { line } => write!(f, "ssh, line {line}"),
        }
    }
}

/// One thing that somebody wants to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Who wants it.
    pub source: Source,
    /// The host, or several.
    pub host: Host,
    /// At these ports.
    pub ports: Ports,
}

impl Wanted {
    /// A host at the ports of HTTP and HTTPS.
    pub fn web(source: Source, host: Host) -> Self {
        Self { source, host, ports: USUAL_PORTS.into() }
    }
}

/// A host that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The host, or several.
    pub host: Host,
    /// At these ports.
    pub ports: Ports,
    /// Who wants it, and at which of these ports.
    #[serde(serialize_with = "sources")]
    pub sources: BTreeMap<Source, Ports>,
}

/// A list: in JSON only a text can be a key.
fn sources<S: Serializer>(all: &BTreeMap<Source, Ports>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        source: &'a Source,
        ports: &'a Ports,
    }
    serializer.collect_seq(all.iter().map(|(source, ports)| Told { source, ports }))
}

/// Everything that a bottle may reach: ordered by host, each host once. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Allowlist(Vec<Entry>);

impl Allowlist {
    /// The list of all that is wanted.
    ///
    /// A name that a wildcard of the list covers as well stays: it is there for a reason of its own.
    pub fn of(wanted: impl IntoIterator<Item = Wanted>) -> Self {
        let mut entries: BTreeMap<Host, BTreeMap<Source, Ports>> = BTreeMap::new();
        for Wanted { source, host, ports } in wanted {
            entries.entry(host).or_default().entry(source).or_default().extend(ports);
        }
        let entry = |(host, sources): (Host, BTreeMap<Source, Ports>)| Entry {
            host,
            ports: sources.values().flatten().copied().collect(),
            sources,
        };
        Self(entries.into_iter().map(entry).collect())
    }

    /// The entries, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    /// Whether nothing may be reached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Allowlist {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::pipelock::classify;

    fn egress(line: usize, host: &str, ports: &[u16]) -> Wanted {
        let ports = ports.iter().copied().collect();
        Wanted { source: Source::Egress { line }, host: classify(host).unwrap(), ports }
    }

    fn told(list: &Allowlist) -> Vec<String> {
        let told = |entry: &Entry| {
            let sources: Vec<_> =
                entry.sources.iter().map(|(source, ports)| format!("{source} {ports:?}")).collect();
            format!("{} {:?}: {}", entry.host, entry.ports, sources.join("; "))
        };
        list.iter().map(told).collect()
    }

    #[test]
    fn each_host_is_there_once_with_all_who_want_it() {
        let built_in = Source::BuiltIn { program: "claude".to_owned() };
        let list = Allowlist::of([
            egress(9, "b.example", &[443]),
            egress(7, "10.0.0.0/8", &[443]),
            egress(5, "A.example", &[8443]),
            egress(3, "*.a.example", &[443]),
            egress(4, "a.example.", &[443]),
            egress(4, "192.0.2.1", &[443]),
            Wanted { source: Source::Ssh { line: 6 }, ..egress(0, "a.example", &[22]) },
            Wanted::web(built_in, classify("a.example").unwrap()),
        ]);
        let expected = [
            "a.example {22, 80, 443, 8443}: built in for claude {80, 443}; egress, line 4 {443}; \
             egress, line 5 {8443}; ssh, line 6 {22}",
            "b.example {443}: egress, line 9 {443}",
            "*.a.example {443}: egress, line 3 {443}",
            "192.0.2.1 {443}: egress, line 4 {443}",
            "10.0.0.0/8 {443}: egress, line 7 {443}",
        ];
        assert_eq!(told(&list), expected);
    }

    #[test]
    fn of_nothing_it_is_empty() {
        assert!(Allowlist::of([]).is_empty());
    }

    proptest! {
        /// The order in which things are written does not matter, nor does writing one twice; and nothing is added.
        #[test]
        fn it_is_a_set(
            wanted in proptest::collection::vec((0_usize..5, 0_usize..6, 1_u16..4), 0..20),
            turn in any::<proptest::sample::Index>(),
        ) {
            const HOSTS: [&str; 6] =
                ["a.example", "A.example.", "*.a.example", "10.0.0.0/8", "10.0.0.0", "2001:db8::1"];
            let mut all: Vec<_> =
                wanted.iter().map(|&(line, host, port)| egress(line, HOSTS[host], &[port])).collect();
            let list = Allowlist::of(all.clone());
            for entry in &list {
                for port in &entry.ports {
                    prop_assert!(all.iter().any(|one| one.host == entry.host && one.ports.contains(port)));
                }
            }
            for one in &all {
                let entry = list.iter().find(|entry| entry.host == one.host).unwrap();
                prop_assert!(one.ports.is_subset(&entry.sources[&one.source]));
            }
            if !all.is_empty() {
                let at = turn.index(all.len());
                all.rotate_left(at);
                all.push(all[0].clone());
            }
            prop_assert_eq!(Allowlist::of(all), list);
        }
    }
}
