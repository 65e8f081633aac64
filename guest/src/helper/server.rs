//! The helper's inner process: PID 1 of the lab's PID namespace. It carries out the launcher's requests one by one.
//!
//! It stays in the launcher's own net namespace, where it does nothing: that is where the loopback controls start
//! from, and what a bottle without a net namespace of its own would be in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

use claude_bottle_protocol::helper::{
    FIREWALL, Forwarder, LISTENING, Lab, MAX_MESSAGE, Process, REAL, Reply, Request, SOCKETS,
    STRAYS,
};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, send, sendmsg, socketpair,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::lab::{self, Made};
use super::{bottle, control, gateway, held, left_open, listening, program};
use crate::failure::{Doing as _, Failure};
use crate::forwarder::Sockets;
use crate::nftables;
use crate::sys::{descriptors, fork};

/// The files below `/proc/self/net` that tell what a net namespace is like.
const OBSERVED: &[&str] = &["dev", "route", "if_inet6", "fib_trie"];
/// How much of each is handed over, in bytes.
const OBSERVED_LENGTH: usize = 12 * 1024;

struct Server {
    control: OwnedFd,
    own_pid_namespace: File,
    nets: BTreeMap<String, OwnedFd>,
    /// The inode numbers of our own net namespace and of those in `nets`.
    known: Vec<u64>,
    running: BTreeMap<i32, u32>,
    /// Whether it may start programs of the host's.
    privileged: bool,
}

/// Serves until the launcher's end of the control socket closes.
pub(super) fn serve(privileged: bool) -> Result<(), Failure> {
    let control = control()?;
    set_up_mounts()?;
    let own_pid_namespace =
        File::open("/proc/self/ns/pid").doing(|| "open the PID namespace".into())?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&children), None).doing(|| "block SIGCHLD".into())?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .doing(|| "make a signal descriptor".into())?;
    let mut server = Server {
        control,
        own_pid_namespace,
        nets: BTreeMap::new(),
        known: Vec::new(),
        running: BTreeMap::new(),
        privileged,
    };
    server.reply(&Reply::Ready)?;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let mut fds = [
            PollFd::new(server.control.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            answered => answered.doing(|| "poll".into())?,
        };
        let (asked, ended) = (fds[0].any() == Some(true), fds[1].any() == Some(true));
        if ended {
            let _ = signals.read_signal();
            server.reap()?;
        }
        if asked && !server.answer(&mut buffer)? {
            return Ok(());
        }
    }
}

/// Mounts made here stay here; `/proc` shows this PID namespace, and its `sys/net` can be written to.
fn set_up_mounts() -> Result<(), Failure> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .doing(|| "make the mounts private".into())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Refused where the present /proc is masked, as in a container: that one then has to do.
    let _ = mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>);
    Ok(())
}

impl Server {
    /// Reads and carries out one request; false at the end.
    fn answer(&mut self, buffer: &mut [u8]) -> Result<bool, Failure> {
        let (length, descriptors) =
            descriptors::receive(self.control.as_fd(), buffer).doing(|| "read a request".into())?;
        if length == 0 {
            return Ok(false);
        }
        let request: Request = serde_json::from_slice(&buffer[..length])
            .map_err(|error| Failure::new(format!("understand a request: {error}")))?;
        // A further part may fail and be asked for again.
        let fatal = matches!(request, Request::Build { .. }) && self.nets.is_empty();
        let done = match request {
            Request::Build { lab } => self.build(&lab, descriptors),
            Request::Start { id, process } => self.start(id, process, descriptors),
            Request::Signal { id, signal } => self.signal(id, signal),
            Request::Observe { net } => self.observe(&net),
        };
        if let Err(Failure { what, errno }) = done {
            self.reply(&Reply::Failed { what, errno })?;
            return Ok(!fatal);
        }
        Ok(true)
    }

    fn reply(&self, reply: &Reply) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(reply)
            .map_err(|error| Failure::new(format!("write a reply: {error}")))?;
        send(self.control.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL)
            .doing(|| "send a reply".into())?;
        Ok(())
    }

    /// A child makes the lab and becomes its witness: it is in the right namespaces and has the sockets already.
    fn build(&mut self, lab: &Lab, mut descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        let adopted = descriptors.split_off(descriptors.len().min(3));
        let streams = three(descriptors)?;
        let (mine, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .doing(|| "make a socket pair".into())?;
        let plan = lab.clone();
        fork::run(move || {
            let standing = match lab::make(&plan, adopted) {
                Ok(standing) => standing,
                Err(failure) => {
                    hand_over(&theirs, &Err((failure.what, failure.errno)), &[]);
                    return ExitCode::FAILURE;
                }
            };
            hand_over(&theirs, &Ok(standing.made), &standing.nets);
            drop((theirs, standing.nets));
            match descriptors::become_standard(streams) {
                Ok(()) => crate::witness::serve(standing.sockets),
                Err(_) => ExitCode::FAILURE,
            }
        })
        .doing(|| "fork".into())?;
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, nets) = descriptors::receive(mine.as_fd(), &mut buffer)
            .doing(|| "hear from the lab's maker".into())?;
        let made: Result<Made, (String, i32)> = serde_json::from_slice(&buffer[..length])
            .map_err(|_| Failure::new("hear from the lab's maker: it died"))?;
        let Made { nets: names, listening, files, cookies } =
            made.map_err(|(what, errno)| Failure { what, errno })?;
        self.known.extend(names.iter().map(|(_, inode)| *inode));
        self.known.extend(net_inode("self"));
        let inodes = names.iter().cloned().collect();
        self.nets.extend(names.into_iter().map(|(name, _)| name).zip(nets));
        let listening = listening.into_iter().collect();
        let files = files.into_iter().collect();
        self.reply(&Reply::Built { inodes, listening, files, cookies })
    }

    fn start(
        &mut self,
        id: u32,
        process: Process,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let mut descriptors = descriptors;
        let more = descriptors.split_off(descriptors.len().min(3));
        let streams = three(descriptors)?;
        let pid = match process {
            Process::Prober { net } => {
                let net = self.net(&net)?;
                fork::run(move || {
                    let entered = enter(net.as_ref()).and_then(|()| keep_only(streams));
                    run_role(entered, crate::prober::run)
                })
            }
            Process::Init { net, env } => {
                let net = self.net(&net)?;
                self.in_new_pid_namespace(move || {
                    let entered = enter(net.as_ref()).and_then(|()| keep_only(streams));
                    run_role(entered, || crate::roles::init(&env))
                })?
            }
            Process::Bottle(walls) => {
                let net = self.net(&walls.net)?;
                let left_open = walls.left_open.iter();
                let left_open = left_open
                    .map(|left| Ok((self.net(&left.net)?, left.clone())))
                    .collect::<Result<Vec<_>, Failure>>()?;
                let own_processes = walls.own_processes;
                let first = move || {
                    let left = left_open.len();
                    let entered = left_open::sockets(&left_open)
                        .and_then(|sockets| enter(net.as_ref()).map(|()| sockets))
                        .and_then(|sockets| keep_these(streams, sockets))
                        // They are the commands', by number.
                        .map(std::mem::forget)
                        .and_then(|()| bottle::enclose(&walls));
                    run_role(entered, || crate::roles::session(left))
                };
                if own_processes { self.in_new_pid_namespace(first)? } else { fork::run(first) }
            }
            Process::Forwarder(Forwarder { listens_in, listens_on, asks_from, asks }) => {
                let (here, there) = (self.net(&listens_in)?, self.net(&asks_from)?);
                fork::run(move || {
                    let entered = enter(here.as_ref())
                        .and_then(|()| {
                            Sockets::open(listens_on).doing(|| format!("listen on {listens_on}"))
                        })
                        .and_then(|sockets| enter(there.as_ref()).map(|()| sockets))
                        .and_then(|sockets| keep_these(streams, sockets.into()))
                        .and_then(Sockets::from_descriptors);
                    match entered {
                        Ok(sockets) => crate::forwarder::serve(sockets, asks),
                        Err(failure) => run_role(Err(failure), || ExitCode::FAILURE),
                    }
                })
            }
            Process::Gateway(wanted) => {
                let [program, config] = two(more)?;
                let (here, there) = (self.net(&wanted.listens_in)?, self.net(&wanted.dials_from)?);
                let listener = gateway::listening(&wanted, here)?;
                fork::run(move || {
                    let run = enter(there.as_ref())
                        .and_then(|()| gateway::run(&wanted, streams, listener, program, config));
                    run_role(run.map(|never| match never {}), || ExitCode::FAILURE)
                })
            }
            Process::Program(program) => {
                if !self.privileged {
                    return Err(Failure::new("start a program of the host's without privilege"));
                }
                let net = self.net(&program.net)?;
                program::furnish(&program)?;
                fork::run(move || {
                    let entered = enter(net.as_ref()).and_then(|()| keep_only(streams));
                    run_role(entered, || program::run(&program))
                })
            }
            Process::Command(command) => {
                if self.privileged {
                    return Err(Failure::new("start a person's command as the host's root"));
                }
                let net = self.net(&command.net)?;
                program::show_resolver(&command)?;
                fork::run(move || {
                    let entered = enter(net.as_ref())
                        .and_then(|()| keep_only(streams))
                        .and_then(|()| program::become_user(command.user));
                    run_role(entered, || program::run_command(&command))
                })
            }
        }
        .doing(|| "fork".into())?;
        self.running.insert(pid.as_raw(), id);
        self.reply(&Reply::Started { id })
    }

    /// Forks into a new PID namespace, without this process' later children following.
    fn in_new_pid_namespace(
        &self,
        child: impl FnOnce() -> ExitCode,
    ) -> Result<nix::Result<Pid>, Failure> {
        unshare(CloneFlags::CLONE_NEWPID).doing(|| "unshare a PID namespace".into())?;
        let forked = fork::run(child);
        setns(self.own_pid_namespace.as_fd(), CloneFlags::CLONE_NEWPID)
            .doing(|| "return to the PID namespace".into())?;
        Ok(forked)
    }

    /// The descriptor of a net namespace; none for the one we are in.
    fn net(&self, name: &str) -> Result<Option<OwnedFd>, Failure> {
        if name == REAL {
            return Ok(None);
        }
        let net = self.nets.get(name);
        let net = net.ok_or_else(|| Failure::new(format!("find the net namespace {name}")))?;
        net.try_clone().map(Some).doing(|| "copy a namespace's descriptor".into())
    }

    fn signal(&self, id: u32, signal: i32) -> Result<(), Failure> {
        let signal = Signal::try_from(signal).doing(|| format!("send signal {signal}"))?;
        match self.running.iter().find(|(_, running)| **running == id) {
            Some((pid, _)) => kill(Pid::from_raw(*pid), signal).doing(|| format!("send {signal}")),
            // It has ended; its Exited is on its way.
            None => Ok(()),
        }
    }

    /// A child looks, since this process could not come back from another net namespace.
    fn observe(&self, name: &str) -> Result<(), Failure> {
        let net = self.net(name)?;
        let (control, name) = (self.control.as_raw_fd(), name.to_owned());
        let known = self.known.clone();
        fork::run(move || {
            if enter(net.as_ref()).is_err() {
                return ExitCode::FAILURE;
            }
            let mut files = observed();
            files.insert(STRAYS.into(), strays(&known));
            files.extend(net_inode("self").map(|net| (SOCKETS.into(), held::lines(net))));
            tell(control, &Reply::Observed { net: name, files })
        })
        .doing(|| "fork".into())?;
        Ok(())
    }

    fn reap(&mut self) -> Result<(), Failure> {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(()),
                Ok(_) | Err(nix::Error::EINTR) => continue,
                Err(errno) => return Err(errno).doing(|| "wait for a child".into()),
            };
            if let Some(id) = self.running.remove(&pid.as_raw()) {
                self.reply(&Reply::Exited { id, code })?;
            }
        }
    }
}

/// What there is to see of the current net namespace.
pub(super) fn observed() -> BTreeMap<String, String> {
    let read = |file: &&str| {
        let bytes = std::fs::read(format!("/proc/self/net/{file}")).ok()?;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(OBSERVED_LENGTH)]);
        Some(((*file).to_owned(), text.into_owned()))
    };
    let mut files: BTreeMap<_, _> = OBSERVED.iter().filter_map(read).collect();
    files.extend(listening::lines().ok().map(|lines| (LISTENING.into(), lines)));
    files.extend(nftables::tables().ok().map(|lines| (FIREWALL.into(), lines)));
    files
}

/// The processes below this one that are in a net namespace which nobody made for them, a line each.
fn strays(known: &[u64]) -> String {
    let Ok(entries) = std::fs::read_dir("/proc") else { return String::new() };
    let mut lines = String::new();
    for entry in entries.flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let is_process = pid.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(inode) = net_inode(&pid).filter(|inode| is_process && !known.contains(inode)) {
            let _ = writeln!(lines, "process {pid} in net:[{inode}]");
        }
    }
    lines
}

pub(super) fn net_inode(process: &str) -> Option<u64> {
    use std::os::linux::fs::MetadataExt as _;
    std::fs::metadata(format!("/proc/{process}/ns/net")).ok().map(|net| net.st_ino())
}

/// The standard streams that come beside a request.
fn three(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; 3], Failure> {
    descriptors.try_into().map_err(|got: Vec<_>| {
        Failure::new(format!("start a process: three descriptors are needed, {} came", got.len()))
    })
}

/// The descriptors that follow the standard streams of a gateway.
fn two(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; 2], Failure> {
    descriptors.try_into().map_err(|got: Vec<_>| {
        Failure::new(format!(
            "start the gateway: its program and configuration are needed, {} came",
            got.len()
        ))
    })
}

pub(super) fn enter(net: Option<&OwnedFd>) -> Result<(), Failure> {
    let Some(net) = net else { return Ok(()) };
    setns(net.as_fd(), CloneFlags::CLONE_NEWNET).doing(|| "enter a net namespace".into())
}

fn keep_only(streams: [OwnedFd; 3]) -> Result<(), Failure> {
    descriptors::become_standard(streams).doing(|| "take the standard streams".into())?;
    descriptors::close_all_others().doing(|| "close all other descriptors".into())
}

/// As [`keep_only`], and `kept` from descriptor 3 on, for this process and the programs that it starts.
fn keep_these(streams: [OwnedFd; 3], kept: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
    descriptors::keep_only(streams, kept).doing(|| "close all other descriptors".into())
}

fn run_role(entered: Result<(), Failure>, role: impl FnOnce() -> ExitCode) -> ExitCode {
    match entered {
        Ok(()) => role(),
        Err(failure) => {
            eprintln!("cannot {failure}");
            ExitCode::from(125)
        }
    }
}

fn hand_over(socket: &OwnedFd, made: &Result<Made, (String, i32)>, nets: &[OwnedFd]) {
    let Ok(bytes) = serde_json::to_vec(made) else { return };
    let raw: Vec<RawFd> = nets.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
    let slices = [IoSlice::new(&bytes)];
    // A failure shows on the other side as a maker that died.
    let _ = sendmsg::<()>(socket.as_raw_fd(), &slices, rights, MsgFlags::MSG_NOSIGNAL, None);
}

fn tell(control: RawFd, reply: &Reply) -> ExitCode {
    let Ok(bytes) = serde_json::to_vec(reply) else { return ExitCode::FAILURE };
    match send(control, &bytes, MsgFlags::MSG_NOSIGNAL) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
