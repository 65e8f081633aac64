//! What a canary is: the typed form of a file in `canaries/`.

use std::path::PathBuf;
use std::time::Duration;

use crate::probe::definition::BackendName;
use crate::written::words::words;

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
    /// An image in a registry.
    Image(Image),
    /// The API of this host's Docker engine.
    Engine(Engine),
}

impl Check {
    /// The word for it in definitions and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Toolbox { .. } => "toolbox",
            Self::Tool(_) => "tool",
            Self::Image(_) => "image",
            Self::Engine(_) => "engine",
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

/// An image in a registry, pinned by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Registry and repository, without tag and digest, such as `ghcr.io/someone/something`.
    pub repository: String,
    /// The digest of its manifest, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The tag that must still mean this digest, if there is one.
    pub tag: Option<String>,
    /// What its program must do.
    pub runs: Runs,
    /// How long it all may take.
    pub within: Duration,
}

/// What the program of an image must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// The arguments, after the image's own entry point.
    pub args: Vec<String>,
    /// What must be in its output.
    pub prints: Vec<String>,
}

/// The API of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The oldest version of the API that will do, as major and minor number.
    pub api: (usize, usize),
    /// The answers whose fields are relied on.
    pub answers: Vec<Answer>,
}

/// An answer of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// To which question.
    pub of: Question,
    /// Its fields, each as the keys that lead to it with dots between them.
    pub has: Vec<String>,
}

words! {
    #[what("question")]
    /// What an engine can be asked without changing anything.
    pub enum Question {
        /// `GET /version`.
        Version = "version",
        /// `GET /info`.
        Info = "info",
        /// `GET /networks/bridge`: the network that every engine has.
        Network = "network",
    }
}
