//! What a canary is: the typed form of a file in `canaries/`.

use std::path::PathBuf;

use crate::probe::definition::BackendName;

/// A check that something outside of this project still is what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The file's stem.
    pub name: String,
    /// Where it was found; none if it was built in.
    pub file: Option<PathBuf>,
    /// What is true of upstream, in one line.
    pub title: String,
    /// Why it matters.
    pub why: String,
    /// Where upstream documents it.
    pub references: Vec<String>,
    /// Words of [requirements](crate::host::Requirement) besides those that the check brings.
    pub needs: Vec<String>,
    /// What is checked.
    pub check: Check,
}

/// What is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The toolbox runs in a bottle of this backend and reports this crate's version.
    Toolbox {
        /// The backend.
        backend: BackendName,
    },
    /// A program of this host.
    Tool(Tool),
}

impl Check {
    /// The word for it in definitions and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Toolbox { .. } => "toolbox",
            Self::Tool(_) => "tool",
        }
    }
}

/// A program of this host, and what it must say of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// A name to be found on `PATH`, or an absolute path.
    pub program: String,
    /// What makes it say its version.
    pub version: Says,
    /// What makes it explain itself, and the flags that must be in there.
    pub help: Vec<Has>,
}

/// How a program says its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Says {
    /// The arguments; `--version` unless others are written.
    pub args: Vec<String>,
    /// The line with the version, `{version}` in its place, which stands for numbers with dots between them.
    pub line: String,
}

/// What a program's help must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Has {
    /// The arguments; `--help` unless others are written.
    pub args: Vec<String>,
    /// Flags and other words.
    pub flags: Vec<String>,
}
