//! A command to run in a bottle.

use std::collections::BTreeMap;
use std::time::Duration;

use claude_bottle_protocol::session::Start;

/// How many bytes of each output stream are kept, unless the command says otherwise.
pub const OUTPUT_LIMIT: u64 = 8 * 1024 * 1024;

/// A command: program, arguments, and everything around them.
///
/// ```
/// use claude_bottle::bottle::Command;
/// use std::time::Duration;
///
/// let command = Command::new("sh")
///     .args(["-c", "wc -c; echo $WHO"])
///     .env("WHO", "me")
///     .stdin("hello")
///     .timeout(Duration::from_secs(5));
/// assert_eq!(command.argv(), ["sh", "-c", "wc -c; echo $WHO"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    pub(super) stdin: Input,
    pub(super) timeout: Option<Duration>,
    pub(super) output_limit: u64,
    terminal: Option<(u16, u16)>,
}

/// What a command reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// Whatever is written while it runs.
    Streamed,
}

impl Command {
    /// A program without arguments; one without a slash in its name is looked up on the bottle's `PATH`. It reads
    /// nothing, may run for ever, and [`OUTPUT_LIMIT`] holds.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            argv: vec![program.into()],
            env: BTreeMap::new(),
            cwd: None,
            stdin: Input::Bytes(Vec::new()),
            timeout: None,
            output_limit: OUTPUT_LIMIT,
            terminal: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.argv.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.argv.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the bottle's own.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Adds variables to the bottle's own.
    pub fn envs(
        mut self,
        variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.env.extend(variables.map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Runs it in this folder of the bottle.
    pub fn cwd(mut self, folder: impl Into<String>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// Lets it read these bytes, then the end of its input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Lets it read what is written to [`Running::take_stdin`](super::Running::take_stdin) while it runs.
    pub fn stream_stdin(mut self) -> Self {
        self.stdin = Input::Streamed;
        self
    }

    /// Ends it after this time, by `SIGKILL` to its process group. Only where it is run to its end.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many bytes of each output stream to keep; what comes after is counted and thrown away, in the bottle.
    pub fn output_limit(mut self, bytes: u64) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Gives it a terminal of this size instead of pipes. Its output and error are then one stream, the first.
    pub fn terminal(mut self, rows: u16, columns: u16) -> Self {
        self.terminal = Some((rows, columns));
        self
    }

    /// The program and its arguments.
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Whether the variable is set here.
    pub(super) fn sets(&self, name: &str) -> bool {
        self.env.contains_key(name)
    }

    /// What the session is told.
    pub(super) fn start(&self) -> Start {
        Start {
            argv: self.argv.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            output_limit: self.output_limit,
            terminal: self.terminal,
        }
    }
}
