//! Starting the toolbox on this host: where it is, and the one thread that starts it. And where the gateway is.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use thiserror::Error;
use tokio::sync::oneshot;

use crate::sys;
use crate::toolbox::{self, ToolboxError};

/// Why the toolbox cannot be started here.
#[derive(Debug, Error)]
pub(in crate::backend) enum StartError {
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
    /// The thread that starts processes cannot be started.
    #[error("cannot start the thread that starts processes")]
    Thread(#[source] io::Error),
    /// The thread that starts processes is gone.
    #[error("the thread that starts processes has ended")]
    NoThread,
}

/// The toolbox on this host, ready to be executed: a file without a name, so that nothing can be left behind.
struct Placed {
    file: File,
    is_in_memory: bool,
    /// In memory, and not known yet to be executable there.
    is_untried: AtomicBool,
}

impl Placed {
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Executing it is the only way to learn whether that is allowed.
    fn tried(self) -> io::Result<Self> {
        Command::new(self.path()).arg("version").stdin(Stdio::null()).output()?;
        Ok(self)
    }

    fn start(&self, prepare: &impl Fn(&mut Command) -> io::Result<()>) -> io::Result<Started> {
        let mut command = Command::new(self.path());
        prepare(&mut command)?;
        let started = command.spawn().map(Started)?;
        self.is_untried.store(false, Ordering::Relaxed);
        Ok(started)
    }

    /// Another place, where this one has never worked; from now on it is everybody's.
    fn instead(&self) -> Option<Result<Arc<Self>, StartError>> {
        self.is_untried.load(Ordering::Relaxed).then(|| {
            let placed = on_disk(&toolbox::bytes()?).map_err(StartError::Place)?;
            let placed = Arc::new(placed);
            *lock(&PLACED) = Some(Arc::clone(&placed));
            Ok(placed)
        })
    }
}

/// A process that was started. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub(in crate::backend) struct Started(Child);

impl Started {
    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Fails where it has ended already, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `toolbox ROLE …` as `prepare` says, from the one thread that starts processes.
///
/// The parent-death signal follows the thread that started a process, not the process of that thread: a worker thread
/// of a runtime that ends would kill what it had started. This thread lives as long as the program.
pub(in crate::backend) async fn start(
    prepare: impl Fn(&mut Command) -> io::Result<()> + Send + 'static,
) -> Result<Started, StartError> {
    let placed = placed()?;
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move || {
        let started = placed.start(&prepare).or_else(|refused| {
            // Whether memory may be executed (`vm.memfd_noexec`, a security module) shows when it is, and only then.
            let failed = |source| StartError::Spawn { path: placed.path(), source };
            match placed.instead() {
                Some(Ok(on_disk)) => on_disk.start(&prepare).map_err(failed),
                Some(Err(StartError::Place(source))) => Err(StartError::Place(source)),
                Some(Err(_)) | None => Err(failed(refused)),
            }
        });
        // Where nobody waits any more, what was started ends here.
        let _ = reply.send(started);
    });
    thread()?.send(job).map_err(|_| StartError::NoThread)?;
    answer.await.map_err(|_| StartError::NoThread)?
}

/// Runs `toolbox ROLE …` to its end, with `input` as its standard input.
pub(in crate::backend) async fn output(
    arguments: Vec<String>,
    input: File,
) -> Result<Output, StartError> {
    let placed = placed()?;
    let running = tokio::task::spawn_blocking(move || {
        let run = |placed: &Placed| {
            let mut command = Command::new(placed.path());
            let output = command.args(&arguments).stdin(input.try_clone()?).output()?;
            placed.is_untried.store(false, Ordering::Relaxed);
            Ok(output)
        };
        run(&placed).or_else(|refused| {
            let failed = |source| StartError::Spawn { path: placed.path(), source };
            match placed.instead() {
                Some(on_disk) => run(on_disk?.as_ref()).map_err(failed),
                None => Err(failed(refused)),
            }
        })
    });
    running.await.map_err(|_| StartError::NoThread)?
}

type Job = Box<dyn FnOnce() + Send>;

fn thread() -> Result<mpsc::Sender<Job>, StartError> {
    static THREAD: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);
    let mut thread = lock(&THREAD);
    if let Some(sender) = &*thread {
        return Ok(sender.clone());
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("launcher".into())
        .spawn(move || jobs.into_iter().for_each(|job| job()))
        .map_err(StartError::Thread)?;
    *thread = Some(sender.clone());
    Ok(sender)
}

/// Where the toolbox is, once it is anywhere.
static PLACED: Mutex<Option<Arc<Placed>>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Places the toolbox, once per process: in memory, or on a disk where there is no such memory.
fn placed() -> Result<Arc<Placed>, StartError> {
    let mut place = lock(&PLACED);
    if let Some(placed) = &*place {
        return Ok(Arc::clone(placed));
    }
    let bytes = toolbox::bytes()?;
    let placed = in_memory(&bytes).or_else(|_| on_disk(&bytes)).map_err(StartError::Place)?;
    Ok(Arc::clone(place.insert(Arc::new(placed))))
}

/// The gateway as a file without a name, for the helper to execute: where the toolbox is, since that has been executed.
pub(super) fn gateway() -> Result<OwnedFd, StartError> {
    static GATEWAY: Mutex<Option<File>> = Mutex::new(None);
    let beside = placed()?;
    let mut place = lock(&GATEWAY);
    if place.is_none() {
        let bytes = toolbox::gateway_bytes()?;
        let memory = if beside.is_in_memory { in_memory(&bytes) } else { on_disk(&bytes) };
        *place = Some(memory.map_err(StartError::Place)?.file);
    }
    let file = place.as_ref().expect("it has just been placed");
    Ok(file.try_clone().map_err(StartError::Place)?.into())
}

fn in_memory(bytes: &[u8]) -> io::Result<Placed> {
    let mut file = sys::memory("toolbox")?;
    file.write_all(bytes)?;
    Ok(Placed { file, is_in_memory: true, is_untried: AtomicBool::new(true) })
}

/// Some folders may not be written to, or nothing in them executed: the next one then.
fn on_disk(bytes: &[u8]) -> io::Result<Placed> {
    let folders = [std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()];
    let mut tries = folders.iter().map(|folder| {
        let placed = nameless(folder, bytes).and_then(Placed::tried);
        placed.map_err(|error| {
            io::Error::new(error.kind(), format!("in {}: {error}", folder.display()))
        })
    });
    let first = tries.next().expect("there are folders");
    first.or_else(|why| tries.find_map(Result::ok).ok_or(why))
}

/// An executable file that never has a name where the file system can do so (`O_TMPFILE`), so that nothing is left of it
/// whenever this process is killed. Whoever may still write to a file cannot execute it (`ETXTBSY`), so it is opened anew
/// for reading.
fn nameless(folder: &Path, bytes: &[u8]) -> io::Result<Placed> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut written = tempfile::tempfile_in(folder)?;
    written.set_permissions(std::fs::Permissions::from_mode(0o755))?;
    written.write_all(bytes)?;
    let file = File::open(format!("/proc/self/fd/{}", written.as_raw_fd()))?;
    Ok(Placed { file, is_in_memory: false, is_untried: AtomicBool::new(false) })
}
