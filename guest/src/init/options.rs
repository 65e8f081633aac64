//! What the init is asked to do, from its arguments and its environment.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use claude_bottle_protocol::daemons::{
    MAX_TABLE, SELECTION, SelectError, Selected, TABLE, Table, TableError,
};
use claude_bottle_protocol::supervise::{DEFAULT_RUN_DIR, RUN_DIR, SOCKET};
use thiserror::Error;

/// The variable with the time between SIGTERM and SIGKILL, in milliseconds.
pub(crate) const STOP_GRACE: &str = "BOTTLE_STOP_GRACE_MS";
/// The variable with the pause before a daemon's first restart, in milliseconds.
pub(crate) const RESTART_PAUSE: &str = "BOTTLE_RESTART_PAUSE_MS";

const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(5);
const DEFAULT_RESTART_PAUSE: Duration = Duration::from_millis(100);
/// The longest time that either variable may ask for: an hour.
const MAX_MILLISECONDS: u64 = 3_600_000;

/// What the init is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The daemons, in order.
    pub(crate) selected: Vec<Selected>,
    /// The time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    /// The pause before a daemon's first restart.
    pub(crate) first_pause: Duration,
    /// Where to answer.
    pub(crate) socket: PathBuf,
}

/// The init cannot do what it is asked to do.
#[derive(Debug, Error)]
pub(crate) enum OptionsError {
    #[error("unexpected argument {0:?}; usage: init [--table FILE]")]
    Argument(String),
    #[error("--table needs a file; usage: init [--table FILE]")]
    NoFile,
    #[error("the environment holds the impossible variable {0:?}")]
    Variable(String),
    #[error("{variable} is {value:?}: milliseconds from 0 to {MAX_MILLISECONDS} are expected")]
    Milliseconds { variable: &'static str, value: String },
    #[error("cannot read the daemon table {path}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the daemon table {path} is wrong")]
    Table { path: PathBuf, source: TableError },
    #[error("in {SELECTION}")]
    Selection(#[from] SelectError),
}

impl Options {
    /// Reads the arguments, the environment and the table file, if one is named.
    pub(crate) fn read(
        arguments: &[String],
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, OptionsError> {
        // An empty variable is one that is not set.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let table = match arguments {
            [] => variable(TABLE).as_deref().map(named_or_written).transpose()?,
            [flag, file] if flag == "--table" => Some(read_table(Path::new(file))?),
            [flag] if flag == "--table" => return Err(OptionsError::NoFile),
            [flag, _, extra, ..] if flag == "--table" => {
                return Err(OptionsError::Argument(extra.clone()));
            }
            [first, ..] => return Err(OptionsError::Argument(first.clone())),
        };
        let milliseconds = |name: &'static str, default: Duration| {
            let Some(value) = variable(name) else {
                return Ok(default);
            };
            let value = value.to_string_lossy();
            match value.trim().parse() {
                Ok(number) if number <= MAX_MILLISECONDS => Ok(Duration::from_millis(number)),
                _ => Err(OptionsError::Milliseconds { variable: name, value: value.into_owned() }),
            }
        };
        let table = Table::built_in().extended(table.unwrap_or_default());
        let selection = variable(SELECTION).unwrap_or_default();
        let folder = variable(RUN_DIR).unwrap_or_else(|| DEFAULT_RUN_DIR.into());
        Ok(Self {
            selected: table.select(&selection.to_string_lossy())?,
            grace: milliseconds(STOP_GRACE, DEFAULT_STOP_GRACE)?,
            first_pause: milliseconds(RESTART_PAUSE, DEFAULT_RESTART_PAUSE)?,
            socket: Path::new(&folder).join(SOCKET),
        })
    }
}

/// The table that the variable has: its file, or itself, for an init that is in a container and has no file.
fn named_or_written(value: &OsStr) -> Result<Table, OptionsError> {
    if !value.as_encoded_bytes().starts_with(b"{") {
        return read_table(Path::new(value));
    }
    Table::parse(value.as_encoded_bytes())
        .map_err(|source| OptionsError::Table { path: TABLE.into(), source })
}

fn read_table(path: &Path) -> Result<Table, OptionsError> {
    let mut json = Vec::new();
    // One byte more than a table may have shows that there is more. The limit also makes an end of /dev/zero.
    File::open(path)
        .and_then(|file| file.take(MAX_TABLE as u64 + 1).read_to_end(&mut json))
        .map_err(|source| OptionsError::Unreadable { path: path.to_owned(), source })?;
    Table::parse(&json).map_err(|source| OptionsError::Table { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Options, OptionsError> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        Options::read(&arguments, |name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn nothing_given_is_all_defaults() {
        let expected = Options {
            selected: Vec::new(),
            grace: Duration::from_secs(5),
            first_pause: Duration::from_millis(100),
            socket: "/run/bottle/supervise.sock".into(),
        };
        assert_eq!(read(&[], &[]).unwrap(), expected);
        let empty = [SELECTION, TABLE, STOP_GRACE, RESTART_PAUSE, RUN_DIR].map(|name| (name, ""));
        assert_eq!(read(&[], &empty).unwrap(), expected);
    }

    #[test]
    fn the_environment_is_heard() {
        let variables =
            [(SELECTION, "egress"), (STOP_GRACE, " 7 "), (RESTART_PAUSE, "0"), (RUN_DIR, "/x")];
        let options = read(&[], &variables).unwrap();
        assert_eq!(options.selected[0].name, "egress");
        assert_eq!(
            (options.grace, options.first_pause),
            (Duration::from_millis(7), Duration::ZERO)
        );
        assert_eq!(options.socket, Path::new("/x/supervise.sock"));
    }

    #[test]
    fn a_table_may_be_in_the_variable_itself() {
        let table = |table: &str| read(&[], &[(SELECTION, "mine"), (TABLE, table)]);
        let options = table(r#"{"mine": {"argv": ["/mine"]}}"#).unwrap();
        assert_eq!(options.selected[0].entry.as_ref().unwrap().argv, ["/mine"]);
        let error = table("{").unwrap_err();
        assert_eq!(error.to_string(), "the daemon table BOTTLE_DAEMON_TABLE is wrong");
        assert!(matches!(table("/nowhere"), Err(OptionsError::Unreadable { .. })));
    }

    #[test]
    fn nonsense_is_refused() {
        let error = |arguments: &[&str], variables: &[(&str, &str)]| {
            read(arguments, variables).unwrap_err().to_string()
        };
        assert_eq!(error(&["-v"], &[]), "unexpected argument \"-v\"; usage: init [--table FILE]");
        assert_eq!(error(&["--table"], &[]), "--table needs a file; usage: init [--table FILE]");
        let extra = error(&["--table", "a", "b"], &[]);
        assert_eq!(extra, "unexpected argument \"b\"; usage: init [--table FILE]");
        for value in ["-1", "5s", "3600001", "99999999999999999999"] {
            assert_eq!(
                error(&[], &[(STOP_GRACE, value)]),
                format!(
                    "BOTTLE_STOP_GRACE_MS is {value:?}: milliseconds from 0 to 3600000 are expected"
                )
            );
        }
        let endless = read(&["--table", "/dev/zero"], &[]).unwrap_err();
        assert!(matches!(endless, OptionsError::Table { source: TableError::TooLong, .. }));
    }

    #[test]
    fn a_selection_that_is_no_text_is_an_unknown_daemon() {
        let hostile =
            |name: &str| (name == SELECTION).then(|| OsString::from_vec(b"\xff\x1b".to_vec()));
        let error = Options::read(&[], hostile).unwrap_err();
        assert!(matches!(error, OptionsError::Selection(SelectError::Unknown { .. })), "{error:?}");
    }
}
