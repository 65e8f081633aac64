//! A canary's file, field by field. The comments are what the JSON Schema says of each.

use crate::canary::tool::VERSION;
use crate::probe::definition::BackendName;
use crate::written::read::Written;
use crate::written::values::{Line, List, Name, Tables, Text, strings};
use crate::written::{table, tagged::tagged};

table! {
    /// A check that something outside of this project still is what it was. The file's stem is the canary's name:
    /// lower-case words joined by `-`.
    pub(crate) struct Canary {
        /// What is true of upstream, in one line, as reports show it.
        pub(crate) title: Written<Line>,
        /// Why it matters: what would break here.
        pub(crate) why: Written<Text>,
        /// Where upstream documents it.
        pub(crate) references: Option<Written<List<Line>>>,
        /// What the host must have besides what the check itself needs, such as `root`.
        pub(crate) needs: Option<Written<List<Name>>>,
        /// What is checked.
        pub(crate) check: Written<Check>,
    }
}

tagged! {
    #[tag("kind")]
    /// What is checked, by kind.
    pub(crate) enum Check {
        /// The toolbox.
        Toolbox(Toolbox) = "toolbox",
        /// A program of the host.
        Tool(Tool) = "tool",
    }
}

table! {
    /// The toolbox runs in a bottle and is of this crate's version.
    pub(crate) struct Toolbox {
        /// The backend that makes the bottle.
        pub(crate) backend: Written<BackendName>,
    }
}

table! {
    /// A program of the host says its version as it used to, and still has the flags that we use.
    pub(crate) struct Tool {
        /// Its name on `PATH`, or an absolute path. Where there is none, the canary is skipped.
        pub(crate) program: Written<Program>,
        /// How it says its version.
        pub(crate) version: Written<Version>,
        /// What its help must have.
        pub(crate) help: Option<Written<Tables<Help>>>,
    }
}

table! {
    /// How a program says its version.
    pub(crate) struct Version {
        /// The arguments; left out: `--version`.
        pub(crate) args: Option<Written<List<Line>>>,
        /// How the line with the version begins, with `{version}` for the version itself, such as `git version {version}`.
        pub(crate) line: Written<VersionLine>,
    }
}

table! {
    /// What a program's help must have.
    pub(crate) struct Help {
        /// The arguments; left out: `--help`.
        pub(crate) args: Option<Written<List<Line>>>,
        /// Flags and other words, each as a whole.
        pub(crate) has: Written<List<Flag>>,
    }
}

strings! {
    /// A program.
    Program: "a name on `PATH` or an absolute path",
        |text| !text.chars().any(char::is_control) && (text.starts_with('/') || !text.contains('/')),
        { "type": "string", "pattern": "^(/[^\\u0000-\\u001f\\u007f]*|[^/\\u0000-\\u001f\\u007f]+)$" };
    /// A line with a version in it.
    VersionLine: "one line with `{version}` in it, once",
        |text| !text.chars().any(char::is_control) && text.matches(VERSION).count() == 1,
        { "type": "string", "pattern": "^[^\\u0000-\\u001f\\u007f]*\\{version\\}[^\\u0000-\\u001f\\u007f]*$" };
    /// A flag.
    Flag: "a flag or word without spaces",
        |text| text.bytes().all(|b| b.is_ascii_graphic()),
        { "type": "string", "pattern": "^[!-~]+$" };
}
