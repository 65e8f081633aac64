//! What a person writes: `claude-bottle.json`, with bottles and the agents that work in them.
//!
//! [`find`] and [`Manifest::read`] are the only functions here that look at the host. What the manifest means on a host
//! is for [`plan`](crate::plan) to say.

mod parse;
mod raw;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value as Json, json};
use thiserror::Error;

pub use self::raw::Runtime;
use crate::bundle::pipelock::Wanted;
use crate::written::folder::visible;
use crate::written::{Mistake, schema};

/// The file's name.
pub const FILE: &str = "claude-bottle.json";
/// How many bytes a manifest may have.
const LARGEST: u64 = 1024 * 1024;

/// Bottles and agents, as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The file.
    pub file: PathBuf,
    /// The bottles by name.
    pub bottles: BTreeMap<String, Bottle>,
    /// The agents by name. Each one's bottle is one of [`Manifest::bottles`].
    pub agents: BTreeMap<String, Agent>,
}

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bottle {
    /// The image.
    pub image: Option<String>,
    /// The container runtime.
    pub runtime: Runtime,
    /// The variables.
    pub env: BTreeMap<String, Variable>,
    /// What may be reached, as far as the manifest says so.
    pub wanted: Vec<Wanted>,
    /// The bundle's image; none: the toolbox's own.
    pub bundle_image: Option<String>,
    /// The daemons in the bundle.
    pub daemons: Vec<String>,
    /// How much of the host it may take.
    pub limits: Limits,
    /// What it shows of the host.
    pub mounts: Vec<Mount>,
}

/// A variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// This text.
    Literal(String),
    /// The value of the host's variable with this name.
    FromHost(String),
}

/// How much of the host a bottle may take; none: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Memory, in MiB.
    pub memory_mib: Option<u32>,
    /// Processors.
    pub cpus: Option<u32>,
    /// Processes and threads.
    pub processes: Option<u32>,
}

/// A folder or file of the host, shown in a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path on the host, as it is written.
    pub source: String,
    /// The absolute path in the bottle.
    pub target: String,
    /// Whether the bottle may write there.
    pub writable: bool,
}

/// Somebody who works in a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The bottle's name.
    pub bottle: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it is told first.
    pub prompt: Option<Prompt>,
    /// Folders with skills, as they are written.
    pub skills: Vec<String>,
}

/// What an agent is told first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// This text.
    Text(String),
    /// What is in this file, a path as it is written.
    File(String),
}

/// Why there is no manifest.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// There is no such file.
    #[error("no {FILE} in {} or a folder above it", visible(from))]
    NotFound {
        /// Where it was looked for first.
        from: PathBuf,
    },
    /// It cannot be read.
    #[error("{}: the file cannot be read", visible(file))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any manifest.
    #[error("{}: the file has more than {LARGEST} bytes", visible(file))]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// Something is wrong in it; never empty.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    Mistakes(Vec<Mistake>),
}

/// The manifest of a folder: in it, or in the nearest folder above it.
pub fn find(from: &Path) -> Result<PathBuf, ManifestError> {
    let mut all = from.ancestors().map(|folder| folder.join(FILE));
    let found = all.find(|file| file.symlink_metadata().is_ok());
    found.ok_or_else(|| ManifestError::NotFound { from: from.to_owned() })
}

impl Manifest {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, ManifestError> {
        let unreadable = |source| ManifestError::Unreadable { file: file.to_owned(), source };
        // Opening a pipe would wait for somebody to write to it.
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        let mut bytes = Vec::new();
        let opened = File::open(file).map_err(unreadable)?;
        opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST {
            return Err(ManifestError::TooLarge { file: file.to_owned() });
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| unreadable(io::Error::other("it is not UTF-8 text")))?;
        Self::parse(file, &text)
    }

    /// Reads a text; `file` is where it comes from.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ManifestError> {
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        parse::manifest(file, text).map_err(ManifestError::Mistakes)
    }
}

/// The JSON Schema (draft 2020-12) of a manifest. What it does not know, [`Manifest::parse`] does: that an agent's bottle
/// is there, what a host is, which daemons there are, and which of them need an image.
pub fn schema() -> Json {
    let mut schema = schema::of::<raw::Manifest>();
    // Editors learn from it which schema a file has.
    schema["properties"]["$schema"] =
        json!({ "type": "string", "description": "Where this schema is." });
    schema
}
