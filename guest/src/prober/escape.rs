//! Ways into other namespaces: new ones, those of processes that can be seen, and the sockets of such processes.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{How, Target, Word};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::hold::Release;
use super::{Means, Ready, dial, fuse, tcp};
use crate::sys::pidfd;

/// How many processes are looked at, and how many descriptors of each.
const PROCESSES: usize = 256;
const DESCRIPTORS: i32 = 64;

/// The role that [`unshared`] starts: enters namespaces of its own, says so, and waits for the end of its input.
pub(crate) fn hold_namespaces() -> ExitCode {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        println!("{}", errno as i32);
        return ExitCode::FAILURE;
    }
    println!("0");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    ExitCode::SUCCESS
}

/// A process in user and net namespaces of its own. `unshare(2)` refuses a process with several threads, so it is
/// another one.
pub(super) fn unshared(ready: &Ready<'_>, until: Instant, release: &Release) -> Word {
    let child = Command::new("/proc/self/exe")
        .arg("hold-namespaces")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Word { errno: error.raw_os_error(), ..Word::new(How::Failed) },
    };
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = BufReader::new(out).read_line(&mut said);
    }
    let word = match said.trim().parse() {
        Ok(0) => {
            ready.tell(None);
            release.wait(until);
            Word::new(How::Sent)
        }
        Ok(errno) => dial::errno_word(match Errno::from_raw(errno) {
            // The limit on namespaces (user_namespaces(7)).
            Errno::ENOSPC => Errno::EPERM,
            errno => errno,
        }),
        Err(_) => Word::new(How::Failed),
    };
    drop(child.stdin.take());
    let _ = child.wait();
    word
}

/// Connects from each other net namespace that can be seen. On a thread of its own, which ends afterwards: the next
/// attempt must not start from there.
pub(super) fn entered(target: &Target, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| enter_each(target, nonce, until, means));
        thread.join().unwrap_or_else(|_| Word::new(How::Failed))
    })
}

fn enter_each(target: &Target, nonce: &Nonce, until: Instant, means: &Means) -> Word {
    let own = fuse::own_namespace();
    let mut told = Word::new(How::Unreachable);
    told.detail = Some("no other net namespace is in sight".into());
    let mut seen = vec![own];
    for pid in processes() {
        let Ok(namespace) = File::open(format!("/proc/{pid}/ns/net")) else { continue };
        let inode = namespace.metadata().ok().map(|metadata| metadata.ino());
        if seen.contains(&inode) {
            continue;
        }
        seen.push(inode);
        told = match setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET) {
            Ok(()) => tcp::attempt(target, nonce, until, means),
            Err(errno) => dial::errno_word(errno),
        };
        if told.how == How::Answered {
            return told;
        }
    }
    told
}

/// Sends over each UDP socket of each other process that can be seen: a socket stays in the net namespace that it was
/// made in.
pub(super) fn stolen(target: &Target, nonce: &Nonce, means: &Means) -> Word {
    let mut told = Word::new(How::Unreachable);
    told.detail = Some("no process of another net namespace is in sight".into());
    let own = fuse::own_namespace();
    // Whoever shares our net namespace has no socket that would lead out of it.
    let ours = |pid: &u32| net_inode(*pid).is_some_and(|inode| Some(inode) == own);
    for pid in processes().into_iter().filter(|pid| !ours(pid)) {
        for number in 0..DESCRIPTORS {
            let socket = match pidfd::take(pid, number) {
                Ok(descriptor) => descriptor,
                Err(Errno::EBADF) => continue,
                // It has ended.
                Err(Errno::ESRCH) => break,
                Err(errno) => {
                    told = dial::errno_word(errno);
                    break;
                }
            };
            if nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::SockType)
                != Ok(nix::sys::socket::SockType::Datagram)
            {
                continue;
            }
            for ip in super::address::resolve(&target.host) {
                let address = SocketAddr::new(ip, target.port);
                let Ok(copy) = socket.try_clone() else { continue };
                if means.guard.permits(address)
                    && UdpSocket::from(copy).send_to(nonce.as_str().as_bytes(), address).is_ok()
                {
                    told = Word::new(How::Sent);
                }
            }
        }
    }
    told
}

fn net_inode(pid: u32) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|namespace| namespace.ino())
}

/// The processes that can be seen, by id.
fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.take(PROCESSES).collect()
}
