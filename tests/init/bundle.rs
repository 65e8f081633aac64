//! An init with daemons of the test's making, run as an ordinary process: its log, its answers, its end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use claude_bottle_protocol::supervise::{Daemon, State, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take before the test has failed. Nothing here waits for so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// The toolbox, a folder for its socket, and what the init is told. Not yet running.
pub(crate) struct Bundle {
    pub(crate) folder: TempDir,
    table: serde_json::Map<String, Value>,
    variables: Vec<(String, String)>,
    /// A command that runs the init: program and arguments.
    wrapper: Vec<String>,
}

impl Bundle {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        install(&folder.path().join("toolbox"));
        Self { folder, table: serde_json::Map::new(), variables: Vec::new(), wrapper: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a daemon that is a shell script, run in the bundle's folder.
    pub(crate) fn script(self, name: &str, script: &str) -> Self {
        let script = format!("cd '{}'\n{script}", self.folder.path().display());
        self.daemon(name, json!({"argv": ["/bin/sh", "-c", script]}))
    }

    pub(crate) fn daemon(mut self, name: &str, entry: Value) -> Self {
        self.table.insert(name.to_owned(), entry);
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn wrapped_in(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The init as a command, with the daemons `selection`.
    pub(crate) fn command(&self, selection: &str) -> Command {
        let mut words = self.wrapper.clone();
        words.extend([self.path("toolbox").display().to_string(), "init".to_owned()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.env("BOTTLE_DAEMONS", selection).env("BOTTLE_RUN_DIR", self.path("run"));
        command.env_remove("BOTTLE_DAEMON_TABLE");
        if !self.table.is_empty() {
            let table = self.path("table.json");
            fs::write(&table, serde_json::to_vec(&self.table).unwrap()).unwrap();
            command.env("BOTTLE_DAEMON_TABLE", table);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Starts the init, its log read as it comes.
    pub(crate) fn start(self, selection: &str) -> Init {
        let mut init = self.start_unread(selection);
        init.read_log();
        init
    }

    /// Starts the init; nobody reads its log yet.
    pub(crate) fn start_unread(self, selection: &str) -> Init {
        let child = self.command(selection).spawn().unwrap();
        Init { bundle: self, child, log: None, seen: Vec::new() }
    }

    /// Runs an init that ends by itself: its exit code, standard output and standard error.
    pub(crate) fn refused(&self, command: &mut Command) -> (i32, String, String) {
        let output = command.output().unwrap();
        let err = text(&output.stderr).replace(&self.folder.path().display().to_string(), "FOLDER");
        (output.status.code().unwrap(), text(&output.stdout), err)
    }

    /// `supervise status`.
    pub(crate) fn ask(&self) -> Output {
        let mut command = Command::new(self.path("toolbox"));
        command.args(["supervise", "status"]).env("BOTTLE_RUN_DIR", self.path("run"));
        command.output().unwrap()
    }
}

/// Writes the toolbox. By a process of its own: were the file open for writing in this one, another test's child
/// might inherit it for a moment, and a program that is open for writing cannot be run (ETXTBSY).
fn install(path: &Path) {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes = claude_bottle::toolbox::bytes().unwrap();
    writer.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(writer.wait().unwrap().success());
}

/// A running init. Told to stop when it is dropped, so that a failing test leaves nothing behind.
pub(crate) struct Init {
    pub(crate) bundle: Bundle,
    child: Child,
    log: Option<Receiver<String>>,
    seen: Vec<String>,
}

impl Init {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub(crate) fn read_log(&mut self) {
        let stdout = self.child.stdout.take().unwrap();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender.send(text(&line)).is_err() {
                    return;
                }
            }
        });
        self.log = Some(receiver);
    }

    /// Nobody reads the log any more.
    pub(crate) fn close_log(&mut self) {
        drop(self.child.stdout.take().unwrap());
    }

    /// The next line that begins so, the rest of it.
    pub(crate) fn line(&mut self, beginning: &str) -> String {
        loop {
            match self.next_line() {
                Some(line) => {
                    if let Some(rest) = line.strip_prefix(beginning) {
                        return rest.to_owned();
                    }
                }
                None => panic!("no line {beginning:?} in {:#?}", self.seen),
            }
        }
    }

    fn next_line(&mut self) -> Option<String> {
        match self.log.as_ref().unwrap().recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the log stands still after {:#?}", self.seen),
        }
    }

    /// `supervise status`, its exit code and its answer.
    pub(crate) fn status(&self) -> (i32, Status) {
        let output = self.bundle.ask();
        let status = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}; the log: {:#?}", self.seen));
        (output.status.code().unwrap(), status)
    }

    /// Asks until the daemon is as wanted.
    pub(crate) fn until(&self, name: &str, wanted: impl Fn(&Daemon) -> bool) -> Daemon {
        let mut last = None;
        let mut found = None;
        eventually(
            || {
                let (_, status) = self.status();
                last = status.daemons.into_iter().find(|daemon| daemon.name == name);
                found = last.clone().filter(&wanted);
                found.is_some()
            },
            || format!("{name}; the log: {:#?}", self.seen),
        );
        found.unwrap()
    }

    /// Waits until the init listens for questions.
    pub(crate) fn wait_for_answers(&self) {
        eventually(|| self.bundle.ask().status.code() != Some(2), || "an answer".to_owned());
    }

    pub(crate) fn until_state(&self, name: &str, state: State) -> Daemon {
        self.until(name, |daemon| daemon.state == state)
    }

    /// Tells it to stop: its end, and its whole log.
    pub(crate) fn stop(&mut self) -> (ExitStatus, Vec<String>) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.end()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> (ExitStatus, Vec<String>) {
        while self.next_line().is_some() {}
        (self.child.wait().unwrap(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid(), Signal::SIGTERM);
            let end = Instant::now() + PATIENCE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::yield_now();
            }
            let _ = self.child.kill();
        }
    }
}

/// Tries until it is so.
pub(crate) fn eventually(mut so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "it never came: {}", what());
        std::thread::yield_now();
    }
}

/// Whether there is such a process, zombies included.
pub(crate) fn exists(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

/// The parent of a process, if there is such a process.
pub(crate) fn parent(pid: &str) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): the name, in parentheses, may hold anything.
    stat.rsplit(')').next()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// `supervise` as a name of the toolbox.
pub(crate) fn called_supervise(bundle: &Bundle, arguments: &[&str]) -> Output {
    let mut command = Command::new(bundle.path("toolbox"));
    command.arg0("/usr/bin/supervise").args(arguments).env("BOTTLE_RUN_DIR", bundle.path("run"));
    command.output().unwrap()
}
