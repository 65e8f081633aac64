//! `claude-bottle cache`: the images that were made ready for micro virtual machines.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::print;
use crate::backend::smolmachines::cache::{Cache, Entry};
use crate::report::text::Untrusted;

/// How wide a reference is shown.
const REFERENCE: usize = 60;

/// List or remove the images that were made ready for micro virtual machines.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them: reference, version of smolvm, architecture, size, age.
    Ls,
    /// Remove all of them but those that are being made.
    Clear,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let cache = Cache::of_user()?;
    match arguments.what {
        What::Ls => print::out(&listed(&cache.entries()?, SystemTime::now()))?,
        What::Clear => {
            let removed = cache.clear()?;
            print::out(&format!("{removed} removed from {}\n", cache.folder().display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(entries: &[Entry], now: SystemTime) -> String {
    if entries.is_empty() {
        return "the cache is empty\n".to_owned();
    }
    let mut text = String::new();
    for Entry { key, size, made } in entries {
        let age = made.and_then(|made| now.duration_since(made).ok());
        let age = age.map_or_else(
            || "of unknown age".to_owned(),
            |age| format!("{} h old", age.as_secs() / 3600),
        );
        let reference = Untrusted::new(&key.reference).one_line(REFERENCE);
        let digest = key.digest.as_deref().unwrap_or("as the registry had it");
        let digest = Untrusted::new(digest).one_line(REFERENCE);
        let _ = writeln!(
            text,
            "{reference} ({digest}), smolvm {}, {}, {} KiB, {age}",
            key.smolvm,
            key.arch,
            size.div_ceil(1024)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::smolmachines::cache::Key;
    use crate::backend::smolmachines::smolvm::version::Version;

    #[test]
    fn entries_are_told_and_so_is_none() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(7200);
        assert_eq!(listed(&[], now), "the cache is empty\n");
        let made = Some(SystemTime::UNIX_EPOCH);
        let mut key = Key::pack("alpine:latest\n", None, Version::new(1, 32, 2));
        key.arch = "x86_64".into();
        assert_eq!(
            listed(&[Entry { key, size: 1025, made }], now),
            "alpine:latest⏎ (as the registry had it), smolvm 1.32.2, x86_64, 2 KiB, 2 h old\n"
        );
    }
}
