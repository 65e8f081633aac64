//! The bottle's gateway: a program of its own whose listening socket is of another net namespace than itself.

use std::io::IoSlice;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use caps::{CapSet, CapsHashSet};
use claude_bottle_protocol::helper::Gateway;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrStorage, bind,
    listen, sendmsg, setsockopt, socket, socketpair, sockopt,
};
use nix::unistd::setsid;

use super::server::enter;
use crate::failure::{Doing as _, Failure};
use crate::sys::{descriptors, fork};

/// How many connections may wait to be accepted.
const WAITING: i32 = 1024;
/// The numbers of the descriptors that the program finds: its listening socket (`sd_listen_fds(3)`), and its configuration.
const CONFIG: RawFd = 4;
const PROGRAM: RawFd = 5;

/// A listening socket of the net namespace `net`. A child makes it and hands it out: who enters a net namespace without
/// privilege in the one that it comes from cannot go back.
pub(super) fn listening(gateway: &Gateway, net: Option<OwnedFd>) -> Result<OwnedFd, Failure> {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (mine, theirs) = pair.doing(|| "make a socket pair".into())?;
    let listens_on = gateway.listens_on;
    fork::run(move || {
        let opened = enter(net.as_ref()).and_then(|()| open(listens_on.into()));
        let (message, raw) = match &opened {
            Ok(socket) => (String::new(), vec![socket.as_raw_fd()]),
            Err(Failure { what, errno }) => (format!("{errno} {what}"), Vec::new()),
        };
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
        // Never empty: that would be the end.
        let message = format!(".{message}");
        let slices = [IoSlice::new(message.as_bytes())];
        let sent = sendmsg::<()>(theirs.as_raw_fd(), &slices, rights, MsgFlags::MSG_NOSIGNAL, None);
        if sent.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
    .doing(|| "fork".into())?;
    let mut buffer = [0; 1024];
    let (length, mut came) = descriptors::receive(mine.as_fd(), &mut buffer)
        .doing(|| "take over the gateway's socket".into())?;
    came.pop().ok_or_else(|| {
        let said = String::from_utf8_lossy(buffer[..length].get(1..).unwrap_or_default());
        let (errno, what) = said.split_once(' ').unwrap_or_default();
        let what = if what.is_empty() { "open the gateway's socket" } else { what };
        Failure { what: what.to_owned(), errno: errno.parse().unwrap_or(0) }
    })
}

fn open(address: SockaddrStorage) -> Result<OwnedFd, Failure> {
    let what = || format!("listen on {address} for the gateway");
    let family = if address.as_sockaddr_in6().is_some() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let opened = socket(family, SockType::Stream, flags, None).doing(what)?;
    setsockopt(&opened, sockopt::ReuseAddr, &true).doing(what)?;
    bind(opened.as_raw_fd(), &address).doing(what)?;
    listen(&opened, Backlog::new(WAITING).unwrap_or(Backlog::MAXCONN)).doing(what)?;
    Ok(opened)
}

/// Becomes the gateway, in the net namespace that it dials from; returns only where it cannot.
pub(super) fn run(
    gateway: &Gateway,
    streams: [OwnedFd; 3],
    listener: OwnedFd,
    program: OwnedFd,
    config: OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    let kept = descriptors::keep_only(streams, vec![listener, config, program]);
    let kept = kept.doing(|| "close all other descriptors".into())?;
    if let Some(program) = kept.last() {
        fcntl(program, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .doing(|| "keep the program from itself".into())?;
    }
    drop_privileges()?;
    // Keys of the launcher's terminal are the command's business.
    setsid().doing(|| "leave the terminal".into())?;
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    let mut command = Command::new(format!("/proc/self/fd/{PROGRAM}"));
    command.args(["--config", &format!("/proc/self/fd/{CONFIG}"), "--until-eof"]);
    if let Some(weakness) = gateway.weakness {
        command.args(["--weakness", weakness.as_str()]);
    }
    let error = command.env_clear().env("LISTEN_FDS", "1").exec();
    Err(Failure { what: "start the gateway".into(), errno: error.raw_os_error().unwrap_or(0) })
}

/// It needs no capability, not even over the bottle's net namespaces.
fn drop_privileges() -> Result<(), Failure> {
    let failed =
        |error: caps::errors::CapsError| Failure::new(format!("drop capabilities: {error}"));
    for capability in caps::runtime::thread_all_supported() {
        caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &CapsHashSet::new()).map_err(failed)?;
    }
    prctl::set_no_new_privs().doing(|| "set no_new_privs".into())
}
