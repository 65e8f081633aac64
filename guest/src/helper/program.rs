//! A program of the host's that a privileged helper runs: with files of its own, in a net namespace of the lab.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use claude_bottle_protocol::helper::Program;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use crate::failure::{Doing as _, Failure};

/// Makes its folder and its files, in the helper's own mount namespace.
pub(super) fn furnish(program: &Program) -> Result<(), Failure> {
    let Program { folder, files, shown, .. } = program;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), folder.as_str(), Some("tmpfs"), flags, Some("mode=755"))
        .doing(|| format!("mount a tmpfs on {folder}"))?;
    for (name, content) in files {
        let path = format!("{folder}/{name}");
        fs::write(&path, content).doing(|| format!("write {path}"))?;
    }
    for (name, path) in shown {
        let source = format!("{folder}/{name}");
        // What is at the other end of a link is what would be hidden otherwise, and it may be in the folder above.
        let hidden = fs::canonicalize(path).doing(|| format!("find {path}"))?;
        mount(Some(source.as_str()), &hidden, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .doing(|| format!("show {source} as {path}"))?;
    }
    Ok(())
}

/// Becomes the program; returns only where it cannot.
pub(super) fn run(program: &Program) -> ExitCode {
    // The helper waits for its children by a descriptor; the program's own children are its own business.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    let Some((path, arguments)) = program.argv.split_first() else { return ExitCode::FAILURE };
    let error = Command::new(path).args(arguments).env_clear().envs(&program.env).exec();
    eprintln!("cannot start {path}: {error}");
    ExitCode::from(127)
}
