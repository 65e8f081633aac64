//! Connect to Unix sockets, send the nonce, read the answer.
//!
//! A socket in the file system belongs to whoever listens there. Only the witness's own are connected to, told by
//! their inode numbers; any other one in sight is told of, and the attempt ends as fused: it may be a way out, so it
//! must not pass for none.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Paths, SocketFile, Word};
use claude_bottle_protocol::witness::ABSTRACT_PREFIX;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::dial;

/// Where the sockets are through which much is had.
const WELL_KNOWN: &[&str] = &[
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket",
    "/var/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/host-services/ssh-auth.sock",
    "/ssh-agent",
    "/tmp/.X11-unix/X0",
];
/// Folders in which sockets are looked for, with all that is below them.
const FOLDERS: &[&str] = &["/run", "/var/run", "/tmp", "/home", "/root", "/mnt", "/var/lib"];
/// How many files and folders are looked at, those that are less deep first.
const MOST_FILES: usize = 1_048_576;
/// How deep below one of [`FOLDERS`].
const DEPTH: usize = 6;
/// Variables that name sockets: as a path, or as a D-Bus address (`unix:path=…`).
const VARIABLES: &[&str] = &["SSH_AUTH_SOCK", "DOCKER_HOST", "DBUS_SESSION_BUS_ADDRESS"];
/// How many sockets are tried.
const MOST_SOCKETS: usize = 256;
/// The longest answer that is searched for the nonce, in bytes.
const LONGEST_ANSWER: usize = 4096;

/// Connects to the abstract socket `name`.
pub(super) fn abstract_socket(name: &str, nonce: &Nonce, until: Instant) -> Word {
    if !name.starts_with(ABSTRACT_PREFIX) {
        let detail = Some(format!("the fuse forbids @{name}: no witness has such a name"));
        return Word { detail, ..Word::new(How::Fused) };
    }
    match UnixAddr::new_abstract(name.as_bytes()) {
        Ok(address) => one(&address, nonce, until),
        Err(errno) => dial::errno_word(errno),
    }
}

/// Connects to each of the witness's sockets that is in sight.
pub(super) fn paths(wanted: &Paths, nonce: &Nonce, until: Instant) -> Word {
    let (candidates, walked) = if wanted.paths.is_empty() {
        everywhere(until)
    } else {
        (wanted.paths.iter().map(PathBuf::from).collect(), Ok(()))
    };
    let looked = candidates.len();
    let mut sockets = BTreeSet::new();
    let mut told = None;
    let mut foreign = Vec::new();
    for path in candidates {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let file = SocketFile { device: metadata.dev(), inode: metadata.ino() };
        // One socket may be in sight under many names.
        if !metadata.file_type().is_socket() || !sockets.insert(file) {
            continue;
        }
        if !wanted.ours.contains(&file) {
            foreign.push(path);
        } else if sockets.len() <= MOST_SOCKETS {
            let word = match UnixAddr::new(&path) {
                Ok(address) => one(&address, nonce, until),
                Err(errno) => dial::errno_word(errno),
            };
            let word = Word { detail: Some(format!("through {}", path.display())), ..word };
            if word.how == How::Answered {
                return word;
            }
            told = Some(word);
        }
    }
    if let Some(path) = foreign.first() {
        let more = match foreign.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let detail = format!("in sight, and not this run's to try: {}{more}", path.display());
        return Word { detail: Some(detail), ..Word::new(How::Fused) };
    }
    if let Err(unseen) = walked {
        let detail = Some(unseen.to_string());
        return Word { detail, ..Word::new(How::Failed) };
    }
    told.unwrap_or_else(|| {
        let detail = Some(format!("no socket at any of {looked} names"));
        Word { detail, ..Word::new(How::Unreachable) }
    })
}

/// Every name under which a socket might be found, and whether that is all of them.
fn everywhere(until: Instant) -> (BTreeSet<PathBuf>, Result<(), Unseen>) {
    let mut names: BTreeSet<PathBuf> = WELL_KNOWN.iter().map(PathBuf::from).collect();
    let variables = VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
    names.extend(variables.filter_map(|value| named_by(&value)));
    let table = std::fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    names.extend(bound(&table));
    let folders = FOLDERS.iter().map(PathBuf::from).collect();
    let walked = walk(folders, MOST_FILES, until, &mut names);
    (names, walked)
}

/// The path in a variable: itself, `unix:///PATH`, or the first `unix:path=PATH` of a D-Bus address.
fn named_by(value: &str) -> Option<PathBuf> {
    let address = value.split(';').find_map(|address| address.strip_prefix("unix:"));
    let path = match address {
        Some(rest) => match rest.split(',').find_map(|pair| pair.strip_prefix("path=")) {
            Some(path) => path,
            None => rest.strip_prefix("//")?,
        },
        None => value,
    };
    path.starts_with('/').then(|| path.into())
}

/// The paths in `/proc/net/unix`: the eighth column, where there is one; `@` begins an abstract name.
fn bound(table: &str) -> impl Iterator<Item = PathBuf> + '_ {
    table.lines().filter_map(|line| {
        let (before, path) = line.split_once(" /")?;
        (before.split_whitespace().count() == 7).then(|| format!("/{path}").into())
    })
}

/// Why some files were not looked at.
#[derive(Debug, PartialEq, Eq)]
enum Unseen {
    TooMany,
    OutOfTime,
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "there are more files than are looked at",
            Self::OutOfTime => "there are more files than could be looked at in time",
        })
    }
}

/// Adds the sockets below `folders`, level by level; symbolic links are not followed. At most `most` files are looked at, and none
/// after `until`.
fn walk(
    mut folders: Vec<PathBuf>,
    most: usize,
    until: Instant,
    names: &mut BTreeSet<PathBuf>,
) -> Result<(), Unseen> {
    let mut left = most;
    for _ in 0..=DEPTH {
        let mut below = Vec::new();
        for folder in folders {
            if Instant::now() >= until {
                return Err(Unseen::OutOfTime);
            }
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                left = left.checked_sub(1).ok_or(Unseen::TooMany)?;
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_socket() {
                    names.insert(entry.path());
                } else if kind.is_dir() {
                    below.push(entry.path());
                }
            }
        }
        folders = below;
    }
    Ok(())
}

fn one(address: &UnixAddr, nonce: &Nonce, until: Instant) -> Word {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = match socket(AddressFamily::Unix, SockType::Stream, flags, None) {
        Ok(socket) => socket,
        Err(errno) => return dial::socket_word(errno),
    };
    if let Err(errno) = connect(socket.as_raw_fd(), address) {
        return match errno {
            // No such file: no way there.
            Errno::ENOENT | Errno::ENOTDIR => {
                Word { errno: Some(errno as i32), ..Word::new(How::Unreachable) }
            }
            errno => dial::errno_word(errno),
        };
    }
    let answered = exchange(socket, nonce, until).unwrap_or(false);
    Word::new(if answered { How::Answered } else { How::Connected })
}

fn exchange(socket: OwnedFd, nonce: &Nonce, until: Instant) -> io::Result<bool> {
    let waiting = socket.try_clone()?;
    let mut stream = UnixStream::from(socket);
    stream.write_all(format!("{nonce}\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while answer.len() < LONGEST_ANSWER && dial::wait(&waiting, PollFlags::POLLIN, until) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if Nonce::scan(&answer).any(|seen| seen == *nonce) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn variables_name_sockets_in_several_ways() {
        for (value, expected) in [
            ("/tmp/agent.1", Some("/tmp/agent.1")),
            ("unix:///var/run/docker.sock", Some("/var/run/docker.sock")),
            ("unix:path=/run/user/1000/bus,guid=1", Some("/run/user/1000/bus")),
            ("tcp:host=x;unix:guid=1,path=/b", Some("/b")),
            ("unix:abstract=/tmp/dbus-1", None),
            ("tcp://127.0.0.1:2375", None),
            ("", None),
        ] {
            assert_eq!(named_by(value), expected.map(PathBuf::from), "{value}");
        }
    }

    #[test]
    fn the_kernels_table_names_paths_and_abstract_sockets() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0: 00000002 00000000 00010000 0001 01 1234 /run/a socket\n\
                     0: 00000002 00000000 00010000 0001 01 1235 @/tmp/.X11-unix/X0\n\
                     0: 00000003 00000000 00000000 0001 03 1236\n";
        assert_eq!(bound(table).collect::<Vec<_>>(), [PathBuf::from("/run/a socket")]);
    }

    #[test]
    fn what_is_less_deep_is_found_first_and_too_much_is_told() {
        let folder = std::env::temp_dir().join(format!("cb-walk-{}", std::process::id()));
        let deep = folder.join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let (near, far) = (folder.join("z"), deep.join("far"));
        let _listeners = [&near, &far].map(|path| UnixListener::bind(path).unwrap());
        let later = Instant::now() + std::time::Duration::from_secs(60);
        let found = |most| {
            let mut names = BTreeSet::new();
            let walked = walk(vec![folder.clone()], most, later, &mut names);
            (names.into_iter().collect::<Vec<_>>(), walked)
        };
        assert_eq!(found(100), (vec![far.clone(), near.clone()], Ok(())));
        assert_eq!(found(3), (vec![near.clone()], Err(Unseen::TooMany)));
        let walked = walk(vec![folder.clone()], 100, Instant::now(), &mut BTreeSet::new());
        assert_eq!(walked, Err(Unseen::OutOfTime));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn nobody_elses_socket_is_connected_to() {
        let folder = std::env::temp_dir().join(format!("cb-unix-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        let ours = SocketFile { device: metadata.dev(), inode: metadata.ino() };
        let paths = |ours| Paths { paths: vec![path.to_string_lossy().into_owned()], ours };
        let (nonce, now) = (Nonce::from_bits(1), Instant::now());

        assert_eq!(super::paths(&paths(vec![]), &nonce, now).how, How::Fused);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // Nobody answers in no time at all.
        assert_eq!(super::paths(&paths(vec![ours]), &nonce, now).how, How::Connected);
        assert!(listener.accept().is_ok());
        drop(listener);
        assert_eq!(super::paths(&paths(vec![ours]), &nonce, now).how, How::Refused);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(super::paths(&paths(vec![ours]), &nonce, now).how, How::Unreachable);
    }

    #[test]
    fn abstract_sockets_are_the_witnesss_or_not_connected_to() {
        let (nonce, now) = (Nonce::from_bits(1), Instant::now());
        assert_eq!(abstract_socket("/tmp/.X11-unix/X0", &nonce, now).how, How::Fused);
        let nobodys = format!("{ABSTRACT_PREFIX}{}", std::process::id());
        assert_eq!(abstract_socket(&nobodys, &nonce, now).how, How::Refused);
    }
}
