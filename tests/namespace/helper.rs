//! The helper's own promises, where they cannot be seen through the handle to a bottle: spoken to as its launcher speaks to it.

use std::io::{IoSlice, Read as _};
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use claude_bottle::toolbox;
use claude_bottle_protocol::helper::{Lab, MAX_MESSAGE, Net, Process, Reply, Request};
use claude_bottle_protocol::witness::{Listener, Service, Transport};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, setsockopt,
    socketpair,
};
use nix::unistd::Pid;

use crate::bottle::{launch, soon};
use crate::trials::{needs_user_namespaces, skip, trials};

/// How long anything may take before a test gives up: far longer than anything does.
const PATIENCE: Duration = Duration::from_secs(60);

/// So that no child of another test holds the socket as well.
#[cfg(target_os = "linux")]
const NOT_INHERITED: SockFlag = SockFlag::SOCK_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const NOT_INHERITED: SockFlag = SockFlag::empty();

/// A helper, as the child of this thread, whose end would be its own.
struct Helper {
    control: OwnedFd,
    process: Child,
}

impl Helper {
    /// One that is ready; the test is ignored where none can be.
    fn start() -> Self {
        needs_user_namespaces();
        let (control, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, NOT_INHERITED).unwrap();
        let patience = nix::sys::time::TimeVal::new(60, 0);
        setsockopt(&control, ReceiveTimeout, &patience).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("toolbox");
        install(&program);
        let own = std::process::id().to_string();
        let process =
            Command::new(program).args(["helper", &own]).stdin(theirs).spawn().expect("a helper");
        let helper = Self { control, process };
        assert_eq!(helper.answer(), Reply::Ready);
        helper
    }

    fn ask(&self, request: &Request, descriptors: &[OwnedFd]) {
        let bytes = serde_json::to_vec(request).unwrap();
        let raw: Vec<_> = descriptors.iter().map(OwnedFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
        let (control, slices) = (self.control.as_raw_fd(), [IoSlice::new(&bytes)]);
        sendmsg::<()>(control, &slices, rights, MsgFlags::empty(), None).unwrap();
    }

    fn answer(&self) -> Reply {
        let mut buffer = vec![0; MAX_MESSAGE];
        let length = recv(self.control.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        serde_json::from_slice(&buffer[..length]).unwrap()
    }

    /// Hangs up, and tells how it ended.
    fn end(self) -> bool {
        let Self { control, mut process } = self;
        drop(control);
        process.wait().unwrap().success()
    }
}

/// Writes the toolbox from another process: no other test's child inherits it open for writing, which would keep it from being
/// executed.
fn install(path: &Path) {
    let bytes = toolbox::bytes().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let copied = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(file)
        .status();
    assert!(copied.unwrap().success());
}

/// Three standard streams: ours, and those for a process.
fn streams() -> (UnixStream, [OwnedFd; 3]) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let [input, output] = [(); 2].map(|()| theirs.try_clone().unwrap().into());
    (ours, [input, output, theirs.into()])
}

fn lab() -> Lab {
    Lab { nets: vec![Net { name: "bundle".into(), ..Net::default() }], ..Lab::default() }
}

fn the_bundles_init_runs_and_has_nothing_to_do() {
    let helper = Helper::start();
    let (_witness, descriptors) = streams();
    helper.ask(&Request::Build { lab: lab() }, &descriptors);
    assert!(matches!(helper.answer(), Reply::Built { .. }));
    let env = [("BOTTLE_DAEMONS".to_owned(), String::new())].into();
    let process = Process::Init { net: "bundle".into(), env };
    let (mut init, descriptors) = streams();
    helper.ask(&Request::Start { id: 7, process }, &descriptors);
    drop(descriptors);
    assert_eq!(helper.answer(), Reply::Started { id: 7 });
    let mut said = String::new();
    while !said.contains("no daemons selected") {
        let mut buffer = [0; 1024];
        let length = init.read(&mut buffer).expect("it says so");
        assert_ne!(length, 0, "the end, after {said:?}");
        said.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    // It idles until it is told to end.
    helper.ask(&Request::Signal { id: 7, signal: Signal::SIGKILL as i32 }, &[]);
    assert_eq!(helper.answer(), Reply::Exited { id: 7, code: 128 + 9 });
    assert!(helper.end());
}

fn descriptors_that_did_not_arrive_are_missed() {
    let helper = Helper::start();
    let real = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = |id| Listener {
        id,
        transport: Transport::Tcp,
        address: real.local_addr().unwrap(),
        service: Service::Echo,
    };
    let lab = Lab { adopted: vec![listener(1), listener(2)], ..lab() };
    let (_witness, descriptors) = streams();
    let descriptors: Vec<_> = descriptors.into_iter().chain([real.into()]).collect();
    helper.ask(&Request::Build { lab }, &descriptors);
    let what = "take over 2 listeners: 1 descriptors came".to_owned();
    assert_eq!(helper.answer(), Reply::Failed { what, errno: 0 });
    let more = recv(helper.control.as_raw_fd(), &mut [0], MsgFlags::empty());
    assert_eq!(more, Ok(0), "there is nothing that it could go on with");
    helper.end();
}

/// The process that has started this one.
fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn a_helper_that_does_not_hear_is_killed() {
    let arena = launch().await;
    // Other tests have helpers at the same time: ours is above the process that the way in names.
    let Ok(bottle) = arena.way_in().rsplit(' ').next().unwrap().parse() else {
        soon(arena.teardown()).await.unwrap();
        skip("processes in a bottle cannot be seen by this user");
    };
    let own = i32::try_from(std::process::id()).unwrap();
    let (mut inner, mut outer) = (bottle, parent(bottle));
    while parent(outer) != own {
        (inner, outer) = (outer, parent(outer));
    }
    kill(Pid::from_raw(inner), Signal::SIGSTOP).unwrap();
    soon(arena.teardown()).await.unwrap();
    assert!(!Path::new(&format!("/proc/{outer}")).exists());
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        the_bundles_init_runs_and_has_nothing_to_do,
        descriptors_that_did_not_arrive_are_missed,
        a_helper_that_does_not_hear_is_killed,
    ]
}
