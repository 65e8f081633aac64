//! The daemons of a bundle: which are known, what a table adds, and what a selection means.
//!
//! The launcher reads this when it plans a bundle, the init when it runs one, so that a selection which the init
//! would refuse is refused before anything is launched.
//!
//! ```
//! use claude_bottle_protocol::daemons::{SelectError, Table};
//! let table = Table::built_in();
//! let selected = table.select("pipelock, egress,pipelock").unwrap();
//! assert_eq!(selected.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["pipelock", "egress"]);
//! assert!(matches!(table.select("pipelok"), Err(SelectError::Unknown { .. })));
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// The variable that selects daemons: their names, separated by commas.
pub const SELECTION: &str = "BOTTLE_DAEMONS";
/// The variable that names a table file, or holds the table itself if it begins with `{`; see [`Table::parse`].
pub const TABLE: &str = "BOTTLE_DAEMON_TABLE";
/// The name under which the init itself answers for the daemons' states; see [`crate::supervise`].
pub const SUPERVISE: &str = "supervise";
/// The longest table, in bytes: a variable, its name included, can have 128 KiB (`MAX_ARG_STRLEN`).
pub const MAX_TABLE: usize = 120 * 1024;
/// The largest number of daemons in one selection. It keeps the init's answer below what a socket takes at once.
pub const MAX_SELECTED: usize = 64;
/// The longest name of a daemon, in bytes.
pub const MAX_NAME: usize = 32;

/// A daemon that the bundle knows without a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its name in a selection.
    pub name: &'static str,
    /// Program and arguments; none: the init itself.
    pub argv: &'static [&'static str],
    /// Where it listens inside the bundle; none: it listens nowhere. `0.0.0.0` is what the bottle can reach.
    pub listens: Option<SocketAddr>,
    /// Whether it is in the toolbox's own image; the others are in that of a bundle.
    pub is_ours: bool,
    /// What it is for.
    pub what: &'static str,
}

const fn on(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(address, port))
}

/// The known daemons, ordered by name.
///
/// `pipelock`'s command is that of its image, <https://github.com/luckyPipewrench/pipelock> (`Dockerfile`), with the
/// configuration of the bundle. `gitleaks` is a scanner without a server of its own: the image wraps it.
pub const KNOWN: [Known; 5] = [
    Known {
        name: "egress",
        argv: &["mitmdump", "--listen-host", "127.0.0.1", "--listen-port", "9099"],
        listens: Some(on(Ipv4Addr::LOCALHOST, 9099)),
        is_ours: false,
        what: "mitmdump, between pipelock and the world; out of the bottle's reach",
    },
    Known {
        name: "gateway",
        argv: &["/bottle/gateway"],
        listens: Some(on(Ipv4Addr::UNSPECIFIED, 8888)),
        is_ours: true,
        what: "our own small allow-listing forward proxy, where pipelock is not available",
    },
    Known {
        name: "gitleaks",
        argv: &["/gitleaks-daemon"],
        listens: None,
        is_ours: false,
        what: "looks for secrets in what leaves",
    },
    Known {
        name: "pipelock",
        argv: &["/pipelock", "run", "--config", "/etc/pipelock.yaml", "--listen", "0.0.0.0:8888"],
        listens: Some(on(Ipv4Addr::UNSPECIFIED, 8888)),
        is_ours: false,
        what: "the bottle's way out",
    },
    Known {
        name: SUPERVISE,
        argv: &[],
        listens: None,
        is_ours: true,
        what: "the init's own answers about the others",
    },
];

/// The known daemon of this name.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// How to run a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Program and arguments. A program without a slash is looked up on the init's `PATH`.
    pub argv: Vec<String>,
    /// Variables, added to those of the init.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files that are written before it is started, for the init's own user alone: absolute paths, and what is in each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// The daemon is running once it accepts connections on this port; none: once it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_port: Option<NonZeroU16>,
    /// The address at which that is tried; none: 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_address: Option<Ipv4Addr>,
}

impl Entry {
    /// Why no process can be started from this, if so.
    fn fault(&self) -> Option<String> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Some("`argv` names no program".to_owned());
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return Some("`argv` holds a NUL".to_owned());
        }
        let variable = self.env.iter().find_map(|(name, value)| {
            let bad = name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
            bad.then(|| format!("`env` holds the impossible variable {name:?}"))
        });
        let file = self.files.keys().find(|path| !path.starts_with('/') || path.contains('\0'));
        variable.or_else(|| Some(format!("`files` holds {:?}, which is no absolute path", file?)))
    }
}

/// A table of daemons cannot be read.
#[derive(Debug, Error)]
pub enum TableError {
    /// It is longer than any sensible one.
    #[error("the table is longer than {MAX_TABLE} bytes")]
    TooLong,
    /// It is no JSON, or not of the form of a table. The message has the line and the column.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Daemons by name, without [`SUPERVISE`], which is always there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Table(BTreeMap<String, Entry>);

impl Table {
    /// The [`KNOWN`] daemons.
    pub fn built_in() -> Self {
        let processes = KNOWN.iter().filter(|known| !known.argv.is_empty()).map(|known| {
            let entry = Entry {
                argv: known.argv.iter().map(|&argument| argument.to_owned()).collect(),
                env: BTreeMap::new(),
                files: BTreeMap::new(),
                ready_port: known.listens.and_then(|address| NonZeroU16::new(address.port())),
                ready_address: None,
            };
            (known.name.to_owned(), entry)
        });
        Self(processes.collect())
    }

    /// A table as a person writes it: `{"NAME": {"argv": ["PROGRAM", …], "env": {…}, "files": {…}, "ready_port": 1234}}`.
    pub fn parse(json: &[u8]) -> Result<Self, TableError> {
        if json.len() > MAX_TABLE {
            return Err(TableError::TooLong);
        }
        Ok(serde_json::from_slice(json)?)
    }

    /// This table, with the entries of `other` added or put in the place of those of the same name.
    pub fn extended(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The names that can be selected, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        names.push(SUPERVISE);
        names.sort_unstable();
        names
    }

    /// What a selection means: names separated by commas, spaces around them trimmed, empty and repeated ones left
    /// out, the order kept.
    pub fn select(&self, selection: &str) -> Result<Vec<Selected>, SelectError> {
        let mut selected: Vec<Selected> = Vec::new();
        for name in selection.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if selected.iter().any(|one| one.name == name) {
                continue;
            }
            let entry = self.0.get(name).cloned();
            if entry.is_none() && name != SUPERVISE {
                return Err(self.unknown(name));
            }
            if selected.len() == MAX_SELECTED {
                return Err(SelectError::TooMany);
            }
            let port = entry.as_ref().and_then(|entry| entry.ready_port);
            let rival = port.and_then(|port| {
                selected.iter().find(|one| one.ready_port() == Some(port)).zip(Some(port))
            });
            if let Some((rival, port)) = rival {
                let (first, second) = (rival.name.clone(), name.to_owned());
                return Err(SelectError::SamePort { first, second, port });
            }
            selected.push(Selected { name: name.to_owned(), entry });
        }
        Ok(selected)
    }

    fn unknown(&self, name: &str) -> SelectError {
        let names = self.names();
        let nearest = names
            .iter()
            .map(|known| (strsim::jaro_winkler(&name.to_lowercase(), known), *known))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            // Below this, the two have little more than a letter in common.
            .filter(|(likeness, _)| *likeness > 0.7)
            .map(|(_, known)| known.to_owned());
        let known = names.into_iter().map(str::to_owned).collect();
        SelectError::Unknown { name: name.chars().take(MAX_NAME * 2).collect(), nearest, known }
    }
}

/// One selected daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its name.
    pub name: String,
    /// How to run it; none for [`SUPERVISE`], which the init itself is.
    pub entry: Option<Entry>,
}

impl Selected {
    fn ready_port(&self) -> Option<NonZeroU16> {
        self.entry.as_ref().and_then(|entry| entry.ready_port)
    }
}

/// A selection cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SelectError {
    /// No daemon has this name.
    #[error(
        "unknown daemon {name:?}{}; known: {}",
        nearest.as_ref().map(|nearest| format!(", the nearest is {nearest:?}")).unwrap_or_default(),
        known.join(", ")
    )]
    Unknown {
        /// The name, cut at twice [`MAX_NAME`].
        name: String,
        /// The known name that is most like it, if any is.
        nearest: Option<String>,
        /// Every known name.
        known: Vec<String>,
    },
    /// Two of them cannot both have the port, such as `pipelock` and `gateway`.
    #[error(
        "{first} and {second} exclude each other: both listen on port {port}; select one of them"
    )]
    SamePort {
        /// The one selected first.
        first: String,
        /// The other.
        second: String,
        /// The port.
        port: NonZeroU16,
    },
    /// More than [`MAX_SELECTED`].
    #[error("more than {MAX_SELECTED} daemons are selected")]
    TooMany,
}

/// Why a table may not use this name, if so. Names stand in log prefixes and in lists separated by commas.
fn name_fault(name: &str) -> Option<String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(letters) {
        let name: String = name.chars().take(MAX_NAME * 2).collect();
        return Some(format!("the name {name:?} is not 1 to {MAX_NAME} of a-z, 0-9, `-` and `_`"));
    }
    ["init", SUPERVISE].contains(&name).then(|| format!("the name {name:?} is the init's own"))
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor)
    }
}

/// Checks while it reads, since only then an error knows its line and column.
struct TableVisitor;

impl<'de> Visitor<'de> for TableVisitor {
    type Value = Table;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of daemons by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
        let mut table = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some(fault) = name_fault(&name) {
                return Err(A::Error::custom(fault));
            }
            if table.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{name:?} is there twice")));
            }
            let entry: Entry = map.next_value()?;
            if let Some(fault) = entry.fault() {
                return Err(A::Error::custom(format_args!("{name:?}: {fault}")));
            }
            table.insert(name, entry);
        }
        Ok(Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &str) -> Vec<String> {
        let selected = Table::built_in().select(selection).unwrap();
        selected.into_iter().map(|one| one.name).collect()
    }

    fn fault(json: &str) -> String {
        Table::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_known_ones_are_ordered_and_could_be_written_as_a_table() {
        assert!(KNOWN.is_sorted_by_key(|known| known.name));
        let table = Table::built_in();
        let json = serde_json::to_vec(&table).unwrap();
        assert_eq!(Table::parse(&json).unwrap(), table);
        assert_eq!(table.names(), KNOWN.map(|known| known.name));
        assert_eq!(known("egress").unwrap().listens, Some("127.0.0.1:9099".parse().unwrap()));
        assert_eq!(known("init"), None);
    }

    #[test]
    fn a_selection_is_trimmed_and_keeps_its_order() {
        assert_eq!(names(""), [""; 0]);
        assert_eq!(names(" , ,"), [""; 0]);
        let mixed = " supervise,pipelock , egress,,supervise, pipelock";
        assert_eq!(names(mixed), ["supervise", "pipelock", "egress"]);
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_one_and_all() {
        let table = Table::built_in();
        let error = |selection| table.select(selection).unwrap_err().to_string();
        assert_eq!(
            error("egress,Pipelok"),
            "unknown daemon \"Pipelok\", the nearest is \"pipelock\"; \
             known: egress, gateway, gitleaks, pipelock, supervise"
        );
        assert_eq!(
            error("\u{1b}[2J"),
            "unknown daemon \"\\u{1b}[2J\"; known: egress, gateway, gitleaks, pipelock, supervise"
        );
    }

    #[test]
    fn two_on_one_port_exclude_each_other() {
        let error = Table::built_in().select("gateway,supervise,pipelock").unwrap_err();
        assert_eq!(
            error.to_string(),
            "gateway and pipelock exclude each other: both listen on port 8888; select one of them"
        );
        let moved = Table::parse(br#"{"gateway": {"argv": ["/gateway"], "ready_port": 8889}}"#);
        let table = Table::built_in().extended(moved.unwrap());
        assert_eq!(table.select("gateway,pipelock").unwrap().len(), 2);
    }

    #[test]
    fn a_selection_is_bounded() {
        let entries: Vec<String> =
            (0..=MAX_SELECTED).map(|n| format!(r#""d{n}":{{"argv":["x"]}}"#)).collect();
        let table = Table::parse(format!("{{{}}}", entries.join(",")).as_bytes()).unwrap();
        let all = table.0.keys().cloned().collect::<Vec<_>>();
        assert_eq!(table.select(&all.join(",")), Err(SelectError::TooMany));
        assert_eq!(table.select(&all[1..].join(",")).unwrap().len(), MAX_SELECTED);
    }

    #[test]
    fn a_bad_table_says_where_and_what() {
        assert_eq!(
            fault("{\"a\":\n {\"argw\": []}}"),
            "unknown field `argw`, expected one of `argv`, `env`, `files`, `ready_port`, `ready_address` at line 2 column 8"
        );
        assert_eq!(fault("{\"a\":\n {}}"), "missing field `argv` at line 2 column 3");
        let says = |json: &str, what: &str| {
            let fault = fault(json);
            assert!(fault.starts_with(what) && fault.contains(" at line 1 column "), "{fault}");
        };
        says(r#"{"a": {"argv": []}}"#, "\"a\": `argv` names no program");
        says(r#"{"a": {"argv": [""]}}"#, "\"a\": `argv` names no program");
        says(r#"{"a": {"argv": ["a\u0000"]}}"#, "\"a\": `argv` holds a NUL");
        says(
            r#"{"a": {"argv": ["a"], "env": {"A=": ""}}}"#,
            "\"a\": `env` holds the impossible variable \"A=\"",
        );
        says(
            r#"{"a": {"argv": ["a"], "files": {"etc/a": ""}}}"#,
            "\"a\": `files` holds \"etc/a\", which is no absolute path",
        );
        says(r#"{"a": {"argv": ["a"], "ready_port": 0}}"#, "invalid value: integer `0`");
        says(r#"{"a": {"argv": ["a"]}, "a": {"argv": ["b"]}}"#, "\"a\" is there twice");
        says(r#"{"init": {"argv": ["a"]}}"#, "the name \"init\" is the init's own");
        says(r#"{"supervise": {"argv": ["a"]}}"#, "the name \"supervise\" is the init's own");
        says(r#"{"A b": {"argv": ["a"]}}"#, "the name \"A b\" is not 1 to 32 of");
        says("[]", "invalid type: sequence, expected a table of daemons by name");
        says("", "EOF while parsing");
        assert_eq!(
            Table::parse(&vec![b' '; MAX_TABLE + 1]).unwrap_err().to_string(),
            "the table is longer than 122880 bytes"
        );
    }
}
