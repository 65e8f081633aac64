//! Programs that are not the toolbox, in a net namespace of the lab: one of the host's, which a privileged helper runs with
//! files of its own, and a command that a person gave.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use claude_bottle_protocol::helper::{self, Program};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::identity;
use crate::failure::{Doing as _, Failure};

/// Makes its folder and its files, in the helper's own mount namespace.
pub(super) fn furnish(program: &Program) -> Result<(), Failure> {
    let Program { folder, files, shown, .. } = program;
    let Some(folder) = folder else { return Ok(()) };
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

/// Where resolvers are named (`resolv.conf(5)`).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Shows the lab's own resolver where the host's is named, in the helper's own mount namespace. Where the host's names none,
/// none is shown.
pub(super) fn show_resolver(command: &helper::Command) -> Result<(), Failure> {
    let helper::Command { resolv_conf, folder, .. } = command;
    let shown = match fs::canonicalize(RESOLV_CONF) {
        Ok(shown) => shown,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link into a folder of the host's that the lab's own hides: what it points at is made there.
            let Some(path) = link_into(folder) else { return Ok(()) };
            let above = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(above).doing(|| format!("make {}", above.display()))?;
            return fs::write(&path, resolv_conf).doing(|| format!("write {}", path.display()));
        }
        Err(error) => return Err(error).doing(|| format!("find {RESOLV_CONF}")),
    };
    let source = format!("{folder}/resolv.conf");
    fs::write(&source, resolv_conf).doing(|| format!("write {source}"))?;
    mount(Some(source.as_str()), &shown, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .doing(|| format!("show {source} as {}", shown.display()))
}

/// Where the link at [`RESOLV_CONF`] leads, if that is below `folder`.
fn link_into(folder: &str) -> Option<PathBuf> {
    let link = fs::read_link(RESOLV_CONF).ok()?;
    let mut path = PathBuf::from("/");
    for part in Path::new("/etc").join(link).components() {
        match part {
            std::path::Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    path.starts_with(folder).then_some(path)
}

/// Becomes an ordinary user, who is the user namespace's root outside of a further one; the capabilities that come with that
/// one are gone as soon as a program is executed.
pub(super) fn become_user(user: Option<(u32, u32)>) -> Result<(), Failure> {
    let Some((uid, gid)) = user else { return Ok(()) };
    unshare(CloneFlags::CLONE_NEWUSER).doing(|| "unshare a user namespace".into())?;
    identity::map_own_ids((uid, 0), (gid, 0))
}

/// Becomes the person's command; returns only where it cannot.
pub(super) fn run_command(command: &helper::Command) -> ExitCode {
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    let Some((program, arguments)) = command.argv.split_first() else { return ExitCode::FAILURE };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("cannot run {program}: {error}");
    ExitCode::from(127)
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
