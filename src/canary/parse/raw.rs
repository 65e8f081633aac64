//! A canary's file, field by field. The comments are what the JSON Schema says of each.

use crate::canary::definition::Question;
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
        /// An image in a registry.
        Image(Image) = "image",
        /// The API of an engine.
        Engine(Engine) = "engine",
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

table! {
    /// An image, pinned by its digest, still pulls, and its program runs and prints what it used to.
    #[expect(clippy::struct_field_names, reason = "a field is named as the key that a person writes")]
    pub(crate) struct Image {
        /// Registry and repository, without tag and digest.
        pub(crate) image: Written<Repository>,
        /// The digest of its manifest.
        pub(crate) digest: Written<Digest>,
        /// A tag that must still mean this digest.
        pub(crate) tag: Option<Written<Tag>>,
        /// What its program must do.
        pub(crate) runs: Written<Runs>,
        /// How long it all may take, such as `90s`; left out: `10m`.
        pub(crate) within: Option<Written<Patience>>,
    }
}

table! {
    /// What an image's program must do.
    pub(crate) struct Runs {
        /// The arguments, after the image's own entry point.
        pub(crate) args: Option<Written<List<Line>>>,
        /// What must be in its output, each text somewhere in a line.
        pub(crate) prints: Written<List<Line>>,
    }
}

table! {
    /// The Docker engine's API answers, and its answers have the fields that we rely on.
    pub(crate) struct Engine {
        /// The oldest version of the API that will do, such as `1.41`.
        pub(crate) api: Written<Api>,
        /// An answer whose fields are relied on.
        pub(crate) answer: Option<Written<Tables<Answer>>>,
    }
}

table! {
    /// An answer, and what it must have.
    pub(crate) struct Answer {
        /// What is asked.
        pub(crate) of: Written<Question>,
        /// Fields, each as the keys that lead to it with dots between them; a number is a place in a list.
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
    /// An image without tag and digest.
    Repository: "a registry and a repository without tag and digest, such as `ghcr.io/someone/something`",
        is_repository,
        { "type": "string", "pattern": "^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$" };
    /// A digest.
    Digest: "`sha256:` and 64 hexadecimal digits",
        |text| text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        }),
        { "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" };
    /// A tag.
    Tag: "a tag: letters, digits, `_`, `.` and `-`",
        |text| !text.starts_with(['.', '-']) && text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)),
        { "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" };
    /// A time.
    Patience: "a time such as `90s` or `10m`",
        |text| humantime::parse_duration(text).is_ok_and(|time| !time.is_zero()),
        { "type": "string", "pattern": "^\\s*[0-9]" };
    /// A version of the engine's API.
    Api: "a version such as `1.41`",
        |text| api(text).is_some(),
        { "type": "string", "pattern": "^[0-9]{1,4}\\.[0-9]{1,4}$" };
}

/// The major and minor number.
pub(super) fn api(text: &str) -> Option<(usize, usize)> {
    let number = |text: &str| {
        let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (major, minor) = text.split_once('.')?;
    Some((number(major)?, number(minor)?))
}

/// Registry, perhaps with a port, and the parts of a path, as in the grammar of references of the OCI's distribution
/// specification.
fn is_repository(text: &str) -> bool {
    let Some((registry, path)) = text.split_once('/') else { return false };
    let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_host = !host.is_empty() && host.bytes().all(|b| is_name(b) || b == b'.' || b == b'-');
    let is_part = |part: &str| {
        let is_end = |b: Option<&u8>| b.copied().is_some_and(is_name);
        is_end(part.as_bytes().first())
            && is_end(part.as_bytes().last())
            && part.bytes().all(|b| is_name(b) || b"._-".contains(&b))
    };
    is_host && port.parse::<u16>().is_ok() && path.split('/').all(is_part)
}
