//! Starting the toolbox on this host: where it is, and the one thread that starts it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tempfile::TempPath;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::toolbox::{self, ToolboxError};

/// Why the toolbox cannot be started here.
#[derive(Debug, Error)]
pub(super) enum StartError {
    /// There is none.
    #[error(transparent)]
    Toolbox(#[from] ToolboxError),
    /// It cannot be put where it can be executed.
    #[error("cannot put the toolbox where it can be executed")]
    Place(#[source] io::Error),
    /// It cannot be started.
    #[error("cannot start the toolbox {path}")]
    Spawn {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread that starts processes is gone.
    #[error("the thread that starts processes has ended")]
    NoThread,
}

/// The toolbox on this host, ready to be executed.
enum Placed {
    /// In memory: no folder has to be writable, and nothing can be left behind.
    Memory(File),
    /// In a temporary file, where memory may not be executed (`vm.memfd_noexec`).
    File(TempPath),
}

impl Placed {
    fn path(&self) -> PathBuf {
        match self {
            Self::Memory(file) => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            Self::File(path) => path.to_path_buf(),
        }
    }
}

/// Starts `toolbox ROLE …` as `prepare` says, from the one thread that starts processes.
///
/// The parent-death signal follows the thread that started a process, not the process of that thread: a worker thread
/// of a runtime that ends would kill what it had started. This thread lives as long as the program.
pub(super) async fn start(
    prepare: impl FnOnce(&mut Command) + Send + 'static,
) -> Result<Child, StartError> {
    let path = placed()?;
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move || {
        let mut command = Command::new(&path);
        prepare(&mut command);
        let started = command.spawn().map_err(|source| StartError::Spawn { path, source });
        // Nobody waits any more: what was started must not live on.
        if let Err(Ok(mut child)) = reply.send(started) {
            let _ = child.kill();
            let _ = child.wait();
        }
    });
    thread()?.send(job).map_err(|_| StartError::NoThread)?;
    answer.await.map_err(|_| StartError::NoThread)?
}

type Job = Box<dyn FnOnce() + Send>;

fn thread() -> Result<mpsc::Sender<Job>, StartError> {
    static THREAD: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*thread {
        return Ok(sender.clone());
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("launcher".into())
        .spawn(move || jobs.into_iter().for_each(|job| job()))
        .map_err(|_| StartError::NoThread)?;
    *thread = Some(sender.clone());
    Ok(sender)
}

/// Places the toolbox, once per process.
fn placed() -> Result<PathBuf, StartError> {
    static PLACED: OnceLock<Placed> = OnceLock::new();
    if let Some(placed) = PLACED.get() {
        return Ok(placed.path());
    }
    let bytes = toolbox::bytes()?;
    let placed = in_memory(&bytes).or_else(|_| in_file(&bytes)).map_err(StartError::Place)?;
    Ok(PLACED.get_or_init(|| placed).path())
}

fn in_memory(bytes: &[u8]) -> io::Result<Placed> {
    let memory = memfd_create("toolbox", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    let placed = Placed::Memory(file);
    // Executing it is the only way to learn whether that is allowed.
    Command::new(placed.path()).arg("version").output()?;
    Ok(placed)
}

fn in_file(bytes: &[u8]) -> io::Result<Placed> {
    use std::os::unix::fs::PermissionsExt as _;
    let executable = std::fs::Permissions::from_mode(0o755);
    let mut file = tempfile::Builder::new()
        .prefix("claude-bottle-toolbox-")
        .permissions(executable)
        .tempfile()?;
    file.write_all(bytes)?;
    Ok(Placed::File(file.into_temp_path()))
}
