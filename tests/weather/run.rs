//! A run of the program as a process of its own.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::trace::{MARK, Trace};

/// How long anything may take before a test gives up: far longer than anything does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Read by those who launch one bottle after the other, written by those who launch many at once: while the net namespaces of the
/// ones are taken down, nobody on the machine can make any, for longer than eight launches on a small one may wait.
pub(crate) static CROWD: RwLock<()> = RwLock::new(());

/// Whether others than the owner cannot get at a file.
fn is_hidden(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let closed = |part: &Path| {
        std::fs::metadata(part).is_ok_and(|found| found.permissions().mode() & 0o001 == 0)
    };
    path.ancestors().any(closed)
}

/// Where the program is.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_claude-bottle")
}

/// Whom it runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever runs the tests.
    Myself,
    /// `nobody`.
    Nobody,
}

impl Who {
    /// Whoever can be taken on here: only root can become somebody else, who must get at the program.
    pub(crate) fn all() -> Vec<Self> {
        [Self::Myself, Self::Nobody].into_iter().filter_map(Self::if_possible).collect()
    }

    fn if_possible(self) -> Option<Self> {
        let can_change = || nix::unistd::geteuid().is_root() && !is_hidden(Path::new(program()));
        (self == Self::Myself || can_change()).then_some(self)
    }
}

/// A command with a mark in its environment that nothing else on this machine has.
pub(crate) struct Marked {
    pub(crate) command: Command,
    pub(crate) mark: String,
}

impl Marked {
    /// The program with these arguments.
    pub(crate) fn program(who: Who, arguments: &[&str]) -> Self {
        let mut marked = Self::of(program());
        marked.command.args(arguments);
        if who == Who::Nobody {
            marked.command.uid(65534).gid(65534);
        }
        marked
    }

    /// Any command.
    pub(crate) fn of(program: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{count}", std::process::id());
        let mut command = Command::new(program);
        command.env(MARK, &mark).current_dir("/");
        for name in ["NO_COLOR", "RUST_BACKTRACE", "CLAUDE_BOTTLE_TOOLBOX"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, mark }
    }

    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn start(mut self) -> Run {
        let child = self.command.spawn().expect("start the program");
        Run { trace: Trace::of(child.id(), self.mark), child }
    }

    /// Runs it to its end, after which nothing is left of it.
    pub(crate) fn ends(self) -> Ended {
        let mut run = self.start();
        let (out, err) = (read(run.child.stdout.take()), read(run.child.stderr.take()));
        let status = run.wait();
        run.trace.assert_nothing_left();
        let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8(thread.join().expect("a reader")).expect("UTF-8")
        };
        Ended { status, out: text(out), err: text(err) }
    }
}

fn read<R: std::io::Read + Send + 'static>(stream: Option<R>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).expect("read");
        }
        bytes
    })
}

/// What a run said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Its exit code. A run that panicked, or that a signal ended, has none that counts.
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        assert!(!self.err.contains("panicked"), "{self:?}");
        assert_eq!(self.status.signal(), None, "{self:?}");
        self.status.code().expect("a code")
    }
}

/// A run under way. Ended at the latest when this goes.
pub(crate) struct Run {
    pub(crate) child: Child,
    pub(crate) trace: Trace,
}

impl Run {
    pub(crate) fn signal(&self, signal: Signal) {
        match kill(pid(self.child.id()), signal) {
            // It has ended, and was waited for.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("send {signal}: {error}"),
        }
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < until, "it hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// The witness, once there is one.
    pub(crate) fn witness(&mut self) -> Pid {
        let until = Instant::now() + PATIENCE;
        loop {
            self.trace.look();
            if let Some(witness) = self.trace.witness() {
                return pid(witness);
            }
            assert!(self.runs(), "it has ended before there was a witness");
            assert!(Instant::now() < until, "there is no witness");
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Fails where it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(id.try_into().expect("a pid"))
}

/// What was found out, from a report in JSON: per attempt its probe, what was tried, and the verdict.
pub(crate) fn verdicts(json: &Path) -> Vec<(String, String, serde_json::Value)> {
    let text = std::fs::read_to_string(json).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut all = Vec::new();
    for run in report["runs"].as_array().expect("runs") {
        for probe in run["probes"].as_array().expect("probes") {
            let name = probe["name"].as_str().expect("a name");
            for attempt in probe["attempts"].as_array().expect("attempts") {
                let what = attempt["what"].as_str().expect("a text");
                all.push((name.to_owned(), what.to_owned(), attempt["verdict"].clone()));
            }
        }
    }
    all
}
