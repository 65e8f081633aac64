//! The command that a person gives, and how the toolbox gets into its sandbox.

use std::env::consts::ARCH;
use std::path::Path;

use claude_bottle_protocol::Nonce;
use thiserror::Error;

/// Stands for the path of the toolbox.
const TOOLBOX: &str = "{toolbox}";
/// Stands for a folder that holds the toolbox, under the name [`FILE`].
const DIR: &str = "{dir}";
/// The toolbox's name in its folder.
pub(super) const FILE: &str = "toolbox";

/// Programs that have a daemon, or another machine, make the sandbox.
const CLIENTS: &[&str] = &[
    "crictl",
    "ctr",
    "docker",
    "incus",
    "kubectl",
    "lxc",
    "machinectl",
    "nerdctl",
    "oc",
    "ssh",
    "systemd-run",
];

/// A command that runs a program inside a sandbox, split into words as a shell would; no shell runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxCommand {
    words: Vec<String>,
}

/// Why a text is no command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// A quotation mark or a backslash has nothing behind it.
    #[error("a quotation mark or a backslash is not closed in {0:?}")]
    Unclosed(String),
    /// There is no word in it.
    #[error("the command is empty")]
    Empty,
}

impl std::str::FromStr for SandboxCommand {
    type Err = CommandError;

    fn from_str(text: &str) -> Result<Self, CommandError> {
        let words = shlex::split(text).ok_or_else(|| CommandError::Unclosed(text.to_owned()))?;
        if words.is_empty() { Err(CommandError::Empty) } else { Ok(Self { words }) }
    }
}

/// How the toolbox comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The command starts it from this machine's file system.
    Placed,
    /// A shell in there takes it from its standard input.
    Streamed,
}

impl SandboxCommand {
    /// Its program, where that has somebody else make the sandbox, who is not in any lab.
    pub fn client(&self) -> Option<&'static str> {
        let program = Path::new(&self.words[0]).file_name()?;
        CLIENTS.iter().copied().find(|client| program == *client)
    }

    /// The words to run with the toolbox, `length` bytes long, in `folder`.
    pub(super) fn with(&self, folder: &Path, length: usize, name: &Nonce) -> (Vec<String>, Entry) {
        let folder = folder.to_string_lossy();
        let toolbox = format!("{folder}/{FILE}");
        let names = |word: &String| word.contains(TOOLBOX) || word.contains(DIR);
        if self.words.iter().any(names) {
            let word = |word: &String| word.replace(TOOLBOX, &toolbox).replace(DIR, &folder);
            return (self.words.iter().map(word).collect(), Entry::Placed);
        }
        let mut words = self.words.clone();
        // `sh -c` alone takes the script as its next word.
        if words.last().is_none_or(|last| last != "-c") {
            words.extend(["sh".into(), "-c".into()]);
        }
        words.push(bootstrap(length, name));
        (words, Entry::Streamed)
    }
}

/// Plain POSIX: takes the toolbox from standard input into the first folder in which something can be executed.
///
/// A shell may take a program of another machine's kind for a script, so that the kind comes first.
fn bootstrap(length: usize, name: &Nonce) -> String {
    let (kind, kinds) = (ARCH, kinds(ARCH));
    format!(
        "m=$(uname -m 2>/dev/null); case \"$m\" in ''|{kinds}) ;; \
         *) echo \"the prober is for {kind}, and this machine is of the kind $m\" >&2; exit 125;; esac; \
         for d in \"${{TMPDIR:-/tmp}}\" /tmp /var/tmp /dev/shm /run \"${{HOME:-/}}\" .; do \
         f=$d/.{name}; \
         if (printf '#!/bin/sh\\n' >\"$f\" && chmod 700 \"$f\" && \"$f\") 2>/dev/null; then \
         head -c {length} >\"$f\" && exec \"$f\" session --remove \"$f\"; rm -f \"$f\"; exit 125; fi; \
         rm -f \"$f\" 2>/dev/null; done; \
         echo 'no folder in there can be written to and executed from' >&2; exit 125"
    )
}

/// What `uname -m` may say where a program for `kind` runs, as a pattern of the shell's: `setarch(8)` makes it say that of
/// 32 bits.
fn kinds(kind: &str) -> String {
    match kind {
        "x86_64" => "x86_64|amd64|i[3456]86".into(),
        "aarch64" => "aarch64|arm64|armv8l".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> (Vec<String>, Entry) {
        let command: SandboxCommand = text.parse().unwrap();
        command.with(Path::new("/t"), 7, &Nonce::from_bits(1))
    }

    #[test]
    fn a_command_names_the_toolbox_its_folder_or_neither() {
        let (named, entry) = words("bwrap --bind {dir} '/a b' {toolbox}");
        assert_eq!(named, ["bwrap", "--bind", "/t", "/a b", "/t/toolbox"]);
        assert_eq!(entry, Entry::Placed);
        let (streamed, entry) = words("docker exec -i c");
        assert_eq!(streamed[..6], ["docker", "exec", "-i", "c", "sh", "-c"]);
        assert_eq!(entry, Entry::Streamed);
        let (shell, _) = words("sh -c");
        assert_eq!((shell.len(), &shell[..2]), (3, &["sh".to_owned(), "-c".to_owned()][..]));
    }

    #[test]
    fn clients_of_daemons_are_known() {
        let client = |text: &str| text.parse::<SandboxCommand>().unwrap().client();
        assert_eq!(client("/usr/bin/docker run x"), Some("docker"));
        assert_eq!(client("bwrap docker"), None);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        assert_eq!("  ".parse::<SandboxCommand>(), Err(CommandError::Empty));
        let open = "sh -c 'x";
        assert_eq!(open.parse::<SandboxCommand>(), Err(CommandError::Unclosed(open.into())));
    }
}
