//! The namespace helper: makes user, net, mount and PID namespaces and everything in them, for a launcher that has
//! many threads and perhaps no privilege.
//!
//! Two processes. The outer one enters a user namespace and makes the PID namespace; the inner one, its PID 1, does
//! the work. When the launcher dies the kernel kills the outer one (parent-death signal), then the inner one, then
//! all that is in its PID namespace; the net namespaces go with their last descriptor.
//!
//! A privileged helper has no user namespace: it is the host's root, and may run a program of the host's, a container
//! engine. What such a program leaves in the kernel's tree of control groups outlives every process, so the outer one
//! is told of the launcher's death by a signal that it can catch, and clears that away last.

mod bottle;
mod cgroups;
mod gateway;
mod held;
mod identity;
mod lab;
mod left_open;
mod listening;
mod program;
mod seccomp;
mod server;

pub(crate) use self::bottle::TOOLBOX;
pub(crate) use self::lab::open_on_one_port;

use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid, pipe};

use claude_bottle_protocol::helper::Reply;

use crate::failure::{Doing as _, Failure};
use crate::sys::{descriptors, fork};

/// `look`: prints what there is to see of the net namespace that it is run in, as one line of JSON.
pub(crate) fn look() -> ExitCode {
    let mut line = serde_json::to_vec(&server::observed()).unwrap_or_default();
    line.push(b'\n');
    match std::io::Write::write_all(&mut std::io::stdout(), &line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// `helper PARENT [privileged CGROUP]`: serves the launcher with process id PARENT over the socket on standard input.
/// A privileged one removes the control group CGROUP from every hierarchy in the end.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let parent = arguments.first().and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
    let done = match (parent, arguments.get(1..).unwrap_or_default()) {
        (Some(parent), []) => outer(parent),
        (Some(parent), [word, cgroup]) if word == "privileged" => privileged(parent, cgroup),
        _ => {
            eprintln!(
                "toolbox: helper PARENT [privileged CGROUP], with a seqpacket socket as standard input"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            tell(&failure);
            ExitCode::FAILURE
        }
    }
}

fn outer(parent: Pid) -> Result<ExitCode, Failure> {
    die_with(parent, Signal::SIGKILL)?;
    identity::enter_user_namespace()?;
    // The kernel clears it when credentials change.
    die_with(parent, Signal::SIGKILL)?;
    let inner = start_inner(false)?;
    loop {
        match waitpid(inner, None) {
            Err(nix::Error::EINTR) => {}
            Ok(WaitStatus::Exited(_, 0)) => return Ok(ExitCode::SUCCESS),
            Ok(_) | Err(_) => return Ok(ExitCode::FAILURE),
        }
    }
}

/// As [`outer`], as the host's root.
fn privileged(parent: Pid, cgroup: &str) -> Result<ExitCode, Failure> {
    // Blocked, so that it waits for whoever waits for it; the inner one takes all signals again.
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGTERM);
    awaited.add(Signal::SIGCHLD);
    awaited.thread_block().doing(|| "block signals".into())?;
    die_with(parent, Signal::SIGTERM)?;
    let groups = cgroups::named(cgroup);
    let inner = start_inner(true)?;
    let code = loop {
        match awaited.wait().doing(|| "wait for a signal".into())? {
            Signal::SIGTERM => {
                // With PID 1 goes everything in its PID namespace, and it is waited for until all of it has gone.
                let _ = kill(inner, Signal::SIGKILL);
            }
            _ => match waitpid(inner, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(nix::Error::EINTR) => {}
                Ok(WaitStatus::Exited(_, 0)) => break ExitCode::SUCCESS,
                Ok(_) | Err(_) => break ExitCode::FAILURE,
            },
        }
    };
    cgroups::remove(&groups);
    Ok(code)
}

/// Forks the inner process into new PID, mount, IPC and UTS namespaces.
fn start_inner(privileged: bool) -> Result<Pid, Failure> {
    let rest = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(rest).doing(|| "unshare PID, mount, IPC and UTS namespaces".into())?;
    let (lifeline, held) = pipe().doing(|| "make a pipe".into())?;
    // This end stays open here as long as this process lives, and is closed in the child.
    let mut held = Some(held);
    let inner = fork::run(|| {
        drop(held.take());
        let unblocked = SigSet::empty().thread_set_mask();
        // Between fork and prctl the outer one may have died: then the lifeline has hung up.
        let armed = prctl::set_pdeathsig(Signal::SIGKILL);
        if armed.is_err() || unblocked.is_err() || hung_up(&lifeline) {
            return ExitCode::FAILURE;
        }
        match server::serve(privileged) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                tell(&failure);
                ExitCode::FAILURE
            }
        }
    })
    .doing(|| "fork".into())?;
    // As long as this process lives.
    std::mem::forget(held);
    Ok(inner)
}

/// Has the kernel send `signal` to this process when the thread that started it ends, and checks that it has not yet.
fn die_with(parent: Pid, signal: Signal) -> Result<(), Failure> {
    prctl::set_pdeathsig(signal).doing(|| "set the parent-death signal".into())?;
    if getppid() != parent {
        return Err(Failure::new("find the launcher alive: it is gone"));
    }
    Ok(())
}

fn hung_up(lifeline: &std::os::fd::OwnedFd) -> bool {
    let mut fds = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Tells the launcher over the socket, which may be gone.
fn tell(failure: &Failure) {
    let reply = Reply::Failed { what: failure.what.clone(), errno: failure.errno };
    if let Ok(bytes) = serde_json::to_vec(&reply) {
        let _ = send(0, &bytes, MsgFlags::MSG_NOSIGNAL);
    }
}

/// The control socket, taken from standard input once.
fn control() -> Result<std::os::fd::OwnedFd, Failure> {
    descriptors::inherited(0).doing(|| "find the control socket on standard input".into())
}
