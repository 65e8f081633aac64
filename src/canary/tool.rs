//! The kind `tool`: a program of this host is asked for its version and its help.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::definition::{Says, Tool};
use super::outcome::Finding;
use crate::nearest::quote;
use crate::report::text::Untrusted;

/// What stands for the version in a line.
pub(super) const VERSION: &str = "{version}";
/// How long a program may take to say anything of itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of what it says is read, in bytes.
const READ: u64 = 1024 * 1024;
/// How much of a wrong answer is told, in columns.
const TOLD: usize = 120;

impl Tool {
    /// Where the program is, if it is there.
    pub(super) fn path(&self) -> Option<PathBuf> {
        which::which(&self.program).ok()
    }

    /// The reason why the canary is skipped where the program is not.
    pub(super) fn needed(&self) -> String {
        let Self { program, .. } = self;
        if program.starts_with('/') {
            format!("needs the program {program}")
        } else {
            format!("needs {program} on PATH")
        }
    }
}

/// Asks the program.
pub(super) async fn check(tool: &Tool) -> Finding {
    let Some(path) = tool.path() else {
        return Finding::Skipped { why: tool.needed() };
    };
    let Says { args, line } = &tool.version;
    let said = match said_by(&path, args).await {
        Ok(said) => said,
        Err(error) => return unreachable(tool, args, &error),
    };
    if !said.status.success() {
        let what = format!("`{}` ended with {}", command_line(tool, args), said.status);
        return Finding::Changed { what };
    }
    let Some(version) = said.texts().find_map(|text| version_in(line, text)) else {
        let first = said.texts().flat_map(str::lines).find(|line| !line.trim().is_empty());
        let first = Untrusted::new(first.unwrap_or_default().trim()).one_line(TOLD);
        let asked = command_line(tool, args);
        let what = format!(
            "no line of `{asked}` begins with {}; the first is {}",
            quote(line),
            quote(&first)
        );
        return Finding::Changed { what };
    };
    let seen = format!("version {version}");
    for help in &tool.help {
        // Some programs end with an error after their help.
        let said = match said_by(&path, &help.args).await {
            Ok(said) => said,
            Err(error) => return unreachable(tool, &help.args, &error),
        };
        let gone = missing(&help.flags, &said);
        if !gone.is_empty() {
            let asked = command_line(tool, &help.args);
            let what = format!("`{asked}` no longer has {} ({seen})", gone.join(", "));
            return Finding::Changed { what };
        }
    }
    Finding::Unchanged { seen }
}

/// The version in the first line of `text` that begins with `line`, in which [`VERSION`] stands for two or more
/// numbers with dots between them; a suffix such as `-rc.1` belongs to it, and what follows does not matter.
pub(super) fn version_in<'t>(line: &str, text: &'t str) -> Option<&'t str> {
    let (before, after) = line.split_once(VERSION)?;
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(before)?;
        let numbers =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest, |end| &rest[..end]);
        // The full stop of a sentence.
        let numbers = numbers.trim_end_matches('.');
        let is_version = numbers.contains('.') && numbers.split('.').all(|part| !part.is_empty());
        let is_suffix = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~');
        let suffix = &rest[numbers.len()..];
        let suffix = if suffix.starts_with(['-', '+', '~']) {
            suffix.find(|c: char| !is_suffix(c)).map_or(suffix, |end| &suffix[..end])
        } else {
            ""
        };
        let version = &rest[..numbers.len() + suffix.len()];
        (is_version && rest[version.len()..].starts_with(after)).then_some(version)
    })
}

/// The words of `flags` that are nowhere in what was said, each as a whole: `--net` is not in `--network`.
fn missing<'f>(flags: &'f [String], said: &Said) -> Vec<&'f str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let has = |flag: &str| {
        said.texts().any(|text| {
            text.match_indices(flag).any(|(at, _)| {
                !text[..at].ends_with(is_part) && !text[at + flag.len()..].starts_with(is_part)
            })
        })
    };
    flags.iter().map(String::as_str).filter(|flag| !has(flag)).collect()
}

/// What a program said, and how it ended.
#[derive(Debug)]
struct Said {
    stdout: String,
    stderr: String,
    status: ExitStatus,
}

impl Said {
    fn texts(&self) -> impl Iterator<Item = &str> {
        [self.stdout.as_str(), self.stderr.as_str()].into_iter()
    }
}

async fn said_by(path: &Path, args: &[String]) -> io::Result<Said> {
    let mut command = Command::new(path);
    command.args(args).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::try_join!(read(stdout), read(stderr), child.wait()) };
    let (stdout, stderr, status) = tokio::time::timeout(PATIENCE, all).await??;
    Ok(Said { stdout, stderr, status })
}

/// The beginning of a stream; the rest is read too, so that whoever writes it comes to an end.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    (&mut stream).take(READ).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unreachable(tool: &Tool, args: &[String], error: &io::Error) -> Finding {
    let asked = command_line(tool, args);
    let why = if error.kind() == io::ErrorKind::TimedOut {
        format!("`{asked}` did not end within {} s", PATIENCE.as_secs())
    } else {
        format!("`{asked}` cannot be run: {error}")
    };
    Finding::Unreachable { why }
}

fn command_line(tool: &Tool, args: &[String]) -> String {
    let words = std::iter::once(&tool.program).chain(args);
    words.map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_numbers_with_dots_in_the_right_place() {
        let table = [
            ("git version {version}", "git version 2.43.0\n", Some("2.43.0")),
            ("git version {version}", "hint: x\ngit version 2.43.0.windows.1", Some("2.43.0")),
            (
                "Docker version {version}, build",
                "Docker version 20.10.24+dfsg1, build 297e128",
                Some("20.10.24+dfsg1"),
            ),
            ("{version}", "1.2-rc.1 of today", Some("1.2-rc.1")),
            ("v{version}", "v1.2. It is new.", Some("1.2")),
            ("Docker version {version}, build", "Docker version 20.10.24", None),
            ("git version {version}", "a git version 2.43.0", None),
            ("git version {version}", "git version two.43", None),
            ("git version {version}", "git version 2", None),
            ("git version {version}", "git version .5", None),
            ("git version {version}", "git version 2..5", None),
            ("git version {version}", "", None),
        ];
        for (line, text, version) in table {
            assert_eq!(version_in(line, text), version, "{line:?} in {text:?}");
        }
    }

    #[test]
    fn a_flag_is_there_as_a_whole_or_not_at_all() {
        let said = Said {
            stdout: "usage: x [--network NET] [-v|--verbose] --dry-run=client\n".to_owned(),
            stderr: "  --cap-drop, --rm\n".to_owned(),
            status: ExitStatus::default(),
        };
        let flags = ["--network", "-v", "--rm", "--cap-drop", "--dry-run", "--verbose"];
        let flags = flags.map(str::to_owned);
        assert_eq!(missing(&flags, &said), Vec::<&str>::new());
        let gone = ["--net", "-x", "--cap", "--verbos", "-run"].map(str::to_owned);
        assert_eq!(missing(&gone, &said), ["--net", "-x", "--cap", "--verbos", "-run"]);
    }
}
