//! A bottle without walls: the toolbox's session as a child process.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle::bottle::session::Session;
use claude_bottle::bottle::{Bottle, BottleError, Command, Event, Running};
use claude_bottle::teardown::TeardownError;
use tokio::process::Child;

/// How long anything may take before a test gives up: far longer than anything does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The toolbox as a file, written once for all tests.
pub(crate) static TOOLBOX: LazyLock<PathBuf> = LazyLock::new(|| {
    let bytes = claude_bottle::toolbox::bytes().expect("a toolbox");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join("session-toolbox");
    if !std::fs::read(&path).is_ok_and(|present| present == *bytes) {
        // Under another name first: another test process may be running it.
        let fresh = tempfile::NamedTempFile::new_in(folder).expect("a temporary file");
        write_program(fresh.path(), &bytes);
        fresh.into_temp_path().persist(&path).expect("rename the toolbox");
    }
    path
});

pub(crate) fn write_program(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes).expect("write the toolbox");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// The command that runs the toolbox's session. It is never killed, not even when a test fails: the end of its input
/// ends it, and only then nothing is left of its commands.
pub(crate) fn session_command() -> tokio::process::Command {
    let mut command = tokio::process::Command::new(&*TOOLBOX);
    command.arg("session").env_remove("CDPATH").env("LC_ALL", "C");
    command
}

/// A bottle without walls.
pub(crate) struct Open {
    pub(crate) session: Session,
    pub(crate) child: Child,
}

impl Open {
    pub(crate) async fn new() -> Self {
        Self::of(session_command()).await
    }

    pub(crate) async fn of(mut command: tokio::process::Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().expect("spawn the session");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let session = Session::open(stdout, stdin, PATIENCE).await.expect("a session");
        Self { session, child }
    }

    pub(crate) async fn sh(&self, script: &str) -> claude_bottle::bottle::Output {
        soon(self.exec(sh(script))).await.expect("an output")
    }
}

#[async_trait]
impl Bottle for Open {
    fn name(&self) -> &'static str {
        "open"
    }

    fn toolbox(&self) -> &str {
        self.session.toolbox()
    }

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        self.session.start(command)
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        if self.session.close(PATIENCE).await {
            return Ok(());
        }
        Err(TeardownError(vec![("the session".to_owned(), "it did not end".into())]))
    }
}

pub(crate) fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// Waits for something that comes, unless it is broken.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}

/// Reads a command's standard output until it holds `wanted`.
pub(crate) async fn read_until(running: &mut Running, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        match soon(running.next()).await.expect("an event") {
            Event::Stdout(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} after {seen:?}, before {wanted:?}"),
        }
    }
    seen
}

/// Whether a process runs; one that has only not been reaped does not.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'))
}
