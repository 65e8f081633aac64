//! Entering a user namespace, as an ordinary user or as root.

use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{
    Gid, Uid, getegid, geteuid, getpid, pipe, read, setgroups, setresgid, setresuid, write,
};

use crate::failure::{Doing as _, Failure};
use crate::sys::fork;

/// `nobody` and `nogroup`: what root's labs and bottles run as, seen from the host. A process with the host's uid 0
/// could write to `/proc/sys` even without a capability.
const NOBODY: u32 = 65534;

/// Unshares a user namespace whose uid 0 is the caller, or `nobody` when the caller is root.
pub(super) fn enter_user_namespace() -> Result<(), Failure> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        as_nobody()
    } else {
        unshare_user()?;
        map_own("setgroups", "deny")?;
        map_own("uid_map", &format!("0 {uid} 1"))?;
        map_own("gid_map", &format!("0 {gid} 1"))
    }
}

/// Maps `inside` in the user namespace that this process has just unshared to its uid and gid outside.
pub(super) fn map_self(inside: u32, uid: u32, gid: u32) -> Result<(), Failure> {
    map_own("setgroups", "deny")?;
    map_own("uid_map", &format!("{inside} {uid} 1"))?;
    map_own("gid_map", &format!("{inside} {gid} 1"))
}

/// Maps one user and one group of the user namespace that this process has just unshared, each to one outside.
pub(super) fn map_own_ids(user: (u32, u32), group: (u32, u32)) -> Result<(), Failure> {
    map_own("setgroups", "deny")?;
    map_own("uid_map", &format!("{} {} 1", user.0, user.1))?;
    map_own("gid_map", &format!("{} {} 1", group.0, group.1))
}

/// Root stays outside for a moment, as a child that writes the maps: only it may map somebody else.
fn as_nobody() -> Result<(), Failure> {
    if let Err(errno) = setgroups(&[]) {
        // Root of a user namespace of somebody else's making may not: nobody in there can, as `user_namespaces(7)` says.
        if !setgroups_is_denied() {
            return Err(errno).doing(|| "drop the supplementary groups".into());
        }
    }
    let (wait, go) = pipe().doing(|| "make a pipe".into())?;
    let me = getpid();
    let mut go = Some(go);
    let mapper = fork::run(|| {
        // Or it would never see its parent die.
        drop(go.take());
        let mut byte = [0];
        if read(&wait, &mut byte) != Ok(1) {
            return ExitCode::FAILURE;
        }
        let map = |file: &str, outside: u32| {
            std::fs::write(format!("/proc/{me}/{file}"), format!("0 {outside} 1"))
        };
        let mapped = ["uid_map", "gid_map"].into_iter().all(|file| {
            // In a container that has no such id, root it is; its own walls are around us.
            map(file, NOBODY).or_else(|_| map(file, 0)).is_ok()
        });
        if mapped { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
    .doing(|| "fork".into())?;
    unshare_user()?;
    let go = go.ok_or_else(|| Failure::new("find the pipe to the mapping process"))?;
    write(&go, b".").doing(|| "wake the process that writes the id maps".into())?;
    match waitpid(mapper, None) {
        Ok(WaitStatus::Exited(_, 0)) => {}
        _ => return Err(Failure::new("map nobody into the user namespace")),
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).doing(|| "become group 0 of the user namespace".into())?;
    setresuid(uid, uid, uid).doing(|| "become user 0 of the user namespace".into())?;
    // Changing ids makes a process undumpable, and its own files in /proc those of the host's root.
    prctl::set_dumpable(true).doing(|| "become dumpable again".into())
}

fn unshare_user() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWUSER).doing(|| "unshare a user namespace".into())
}

fn setgroups_is_denied() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

fn map_own(file: &str, map: &str) -> Result<(), Failure> {
    std::fs::write(format!("/proc/self/{file}"), map).doing(|| format!("write {file}"))
}
