//! A bottle's walls: everything that encloses its first process, put up from inside before it runs any command.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;

use caps::{CapSet, Capability};
use claude_bottle_protocol::helper::{Bottle, Mount};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{chdir, pivot_root, sethostname};

use super::{identity, seccomp};
use crate::failure::{Doing as _, Failure};

/// Where the toolbox is in a bottle.
pub(crate) const TOOLBOX: &str = "/.bottle/toolbox";
/// The user that a bottle's commands run as, inside.
const AGENT: u32 = 1000;
/// Folders that a new root file system may be mounted on; the old one is gone a moment later.
const STAGES: &[&str] = &["/tmp", "/mnt", "/run", "/dev"];
/// The host's devices that are shown in a bottle: they hold no state and lead nowhere.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Puts up the walls around this process, PID 1 of the bottle's PID namespace and in its net namespace already.
pub(super) fn enclose(walls: &Bottle) -> Result<(), Failure> {
    let new = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(new).doing(|| "unshare the bottle's mount, IPC, UTS and cgroup namespaces".into())?;
    sethostname(&walls.hostname).doing(|| "set the host name".into())?;
    make_root(walls)?;
    drop_privileges(walls)?;
    set_environment(walls);
    prctl::set_no_new_privs().doing(|| "set no_new_privs".into())?;
    if walls.seccomp {
        seccomp::apply(walls.user_namespaces, walls.io_uring)?;
    }
    Ok(())
}

/// A small root file system in memory, with nothing of the host but the plan's mounts.
fn make_root(walls: &Bottle) -> Result<(), Failure> {
    let stage = STAGES.iter().find(|stage| Path::new(stage).is_dir());
    let stage = stage.ok_or_else(|| Failure::new("find a folder to mount the new root on"))?;
    let toolbox = File::open("/proc/self/exe").doing(|| "open the toolbox".into())?;
    // Before the new root hides what lies below its stage.
    let sources = walls.mounts.iter().map(source).collect::<Result<Vec<_>, _>>()?;
    mount_tmpfs(stage, "mode=755")?;
    chdir(*stage).doing(|| "enter the new root".into())?;
    for folder in
        ["dev", "dev/pts", "dev/shm", "etc", "home", "home/agent", "proc", "tmp", ".bottle"]
    {
        fs::create_dir(folder).doing(|| format!("make the folder /{folder}"))?;
    }
    copy_toolbox(&toolbox)?;
    write_etc(walls)?;
    make_devices()?;
    for folder in ["tmp", "home/agent", "dev/shm"] {
        mount_tmpfs(folder, "mode=1777")?;
    }
    for (wanted, source) in walls.mounts.iter().zip(&sources) {
        bind(wanted, source)?;
    }
    // Refused where the host's /proc is masked: the bottle then has none.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let _ = mount(Some("proc"), "proc", Some("proc"), flags, None::<&str>);
    pivot_root(".", ".").doing(|| "make it the root".into())?;
    umount2(".", MntFlags::MNT_DETACH).doing(|| "let go of the old root".into())?;
    seal(walls.executable)
}

/// Copied within the kernel: the toolbox is by far the largest thing that a launch moves.
fn copy_toolbox(mut from: &File) -> Result<(), Failure> {
    let what = || format!("copy the toolbox to {TOOLBOX}");
    let mut options = fs::OpenOptions::new();
    let to = options.write(true).create_new(true).mode(0o755);
    let mut to = to.open(TOOLBOX.trim_start_matches('/')).doing(what)?;
    io::copy(&mut from, &mut to).doing(what)?;
    Ok(())
}

/// The root becomes read-only; what is mounted on it keeps its own flags.
fn seal(executable: bool) -> Result<(), Failure> {
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if !executable {
        flags |= MsFlags::MS_NOEXEC;
        for folder in ["/tmp", "/home/agent"] {
            mount(None::<&str>, folder, None::<&str>, flags, None::<&str>)
                .doing(|| format!("remount {folder}"))?;
        }
    }
    mount(None::<&str>, "/", None::<&str>, flags | MsFlags::MS_RDONLY, None::<&str>)
        .doing(|| "make the root read-only".into())
}

fn mount_tmpfs(target: &str, options: &str) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options))
        .doing(|| format!("mount a tmpfs on {target}"))
}

fn write_etc(walls: &Bottle) -> Result<(), Failure> {
    let mut hosts = b"127.0.0.1 localhost\n".to_vec();
    if Path::new("/proc/sys/net/ipv6").exists() {
        hosts.extend_from_slice(b"::1 localhost ip6-localhost\n");
    }
    for (address, name) in &walls.hosts {
        writeln!(hosts, "{address} {name}").doing(|| "write etc/hosts".into())?;
    }
    let passwd = format!("agent:x:{AGENT}:{AGENT}:agent:/home/agent:/bin/sh\n");
    let group = format!("agent:x:{AGENT}:\n");
    write_new("etc/hosts", 0o644, &hosts)?;
    write_new("etc/passwd", 0o644, passwd.as_bytes())?;
    write_new("etc/group", 0o644, group.as_bytes())?;
    write_new("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
    // No resolver, but under a breach: a name is the gateway's business.
    let resolvers = walls.nameservers.iter().map(|server| format!("nameserver {server}\n"));
    write_new("etc/resolv.conf", 0o644, resolvers.collect::<String>().as_bytes())
}

fn make_devices() -> Result<(), Failure> {
    for device in DEVICES {
        let (source, target) = (format!("/dev/{device}"), format!("dev/{device}"));
        if !Path::new(&source).exists() {
            continue;
        }
        write_new(&target, 0o666, b"")?;
        mount(Some(source.as_str()), target.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .doing(|| format!("show /dev/{device} in the bottle"))?;
    }
    let options = "newinstance,ptmxmode=0666,mode=620";
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devpts"), "dev/pts", Some("devpts"), flags, Some(options))
        .doing(|| "mount the bottle's terminals".into())?;
    for (link, target) in [
        ("dev/ptmx", "pts/ptmx"),
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, link).doing(|| format!("link /{link}"))?;
    }
    Ok(())
}

/// What a mount shows, held on to without being opened: a socket is as good as a file (`O_PATH`, `open(2)`).
fn source(wanted: &Mount) -> Result<File, Failure> {
    let mut options = fs::OpenOptions::new();
    let path_only = options.read(true).custom_flags(libc::O_PATH);
    let opened = path_only.open(&wanted.source);
    opened.doing(|| format!("find {} for the bottle", wanted.source))
}

/// Shows a folder or file of the host in the new root, read-only unless the plan says otherwise.
fn bind(wanted: &Mount, source: &File) -> Result<(), Failure> {
    let Mount { source: name, target, writable } = wanted;
    let inside = target.trim_start_matches('/');
    let what = || format!("show {name} as {target} in the bottle");
    if source.metadata().doing(what)?.is_dir() {
        fs::create_dir_all(inside).doing(what)?;
    } else {
        if let Some(parent) = Path::new(inside).parent() {
            fs::create_dir_all(parent).doing(what)?;
        }
        write_new(inside, 0o644, b"")?;
    }
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount(Some(source.as_str()), inside, None::<&str>, bind, None::<&str>).doing(what)?;
    if !*writable {
        read_only(inside).doing(what)?;
    }
    Ok(())
}

/// Makes a bind mount read-only. Flags that the host's own mount has are locked in a user namespace and must be
/// asked for again.
fn read_only(target: &str) -> nix::Result<()> {
    use nix::sys::statvfs::{FsFlags, statvfs};
    /// `linux/statfs.h`; not every C library's header has it.
    const ST_RELATIME: FsFlags = FsFlags::from_bits_retain(0x1000);
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let present = statvfs(target)?.flags();
    for (has, keep) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if present.contains(has) {
            flags |= keep;
        }
    }
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

fn write_new(path: &str, mode: u32, content: &[u8]) -> Result<(), Failure> {
    let what = || format!("write {path} in the new root");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path).doing(what)?;
    file.write_all(content).doing(what)
}

/// A nested user namespace, in which the commands have an id but no capability over anything of the lab. Under a
/// breach that grants capabilities they stay in the lab's, with those alone.
fn drop_privileges(walls: &Bottle) -> Result<(), Failure> {
    let failed =
        |error: caps::errors::CapsError| Failure::new(format!("drop capabilities: {error}"));
    let mut kept = caps::CapsHashSet::new();
    for name in &walls.capabilities {
        let name = format!("CAP_{name}");
        kept.insert(name.parse::<Capability>().map_err(failed)?);
    }
    if kept.is_empty() {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        unshare(CloneFlags::CLONE_NEWUSER)
            .doing(|| "unshare the bottle's user namespace".into())?;
        identity::map_self(AGENT, uid.as_raw(), gid.as_raw())?;
        if !walls.user_namespaces {
            // A second lock beside the filter; not there where /proc is not.
            let _ = fs::write("/proc/sys/user/max_user_namespaces", "0");
        }
    }
    // Once: it asks the kernel about each of them.
    for capability in caps::runtime::thread_all_supported() {
        if !kept.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::set(None, CapSet::Inheritable, &kept).map_err(failed)?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed)
}

fn set_environment(walls: &Bottle) {
    let inherited: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    let own = [
        ("HOME", "/home/agent"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"),
        ("USER", "agent"),
    ];
    crate::sys::environment::replace(
        inherited,
        own.into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .chain(walls.env.clone()),
    );
}
