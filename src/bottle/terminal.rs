//! A command on the person's own terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use terminal_size::{Height, Width, terminal_size_of};
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::running::{End, Event, Remote, Running, Stdin};
use super::{Bottle, BottleError, Command};

/// Signals, as Linux counts them.
const HANGUP: u8 = 1;
const INTERRUPT: u8 = 2;
const KILL: u8 = 9;
const PIPE: u8 = 13;
const TERMINATE: u8 = 15;
/// The size of a terminal that does not know its own.
const USUAL_SIZE: (u16, u16) = (24, 80);
/// How many bytes are read from the person at a time.
const PORTION: usize = 16 * 1024;

/// Runs a command on the person's terminal; see [`Bottle::exec_claude`].
pub(super) async fn exec<B: Bottle + ?Sized>(
    bottle: &B,
    command: Command,
) -> Result<i32, BottleError> {
    let mut command = command.stream_stdin().output_limit(u64::MAX);
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    // From here on; while the command starts, there is nobody to pass them on to.
    let mut signals = Signals::listen()?;
    if on_terminal {
        let (rows, columns) = size().unwrap_or(USUAL_SIZE);
        command = command.terminal(rows, columns);
        if let Ok(term) = std::env::var("TERM")
            && !command.sets("TERM")
        {
            command = command.env("TERM", term);
        }
    }
    let mut running = tokio::select! {
        running = bottle.start(command) => running?,
        signal = signals.end() => return Ok(128 + i32::from(signal)),
    };
    // Not before: until there is a command to get them, keys such as `^C` are for this process.
    let raw = if on_terminal {
        let enter = io::stdin().as_fd().try_clone_to_owned().and_then(RawMode::enter);
        Some(enter.map_err(terminal("make the terminal pass on every key"))?)
    } else {
        None
    };
    let remote = running.remote();
    let mut feeding = JoinSet::new();
    if let Some(stdin) = running.take_stdin() {
        let keys = Keys::listen().map_err(terminal("read from the terminal"))?;
        feeding.spawn(feed(keys, stdin));
    }
    let end = tokio::select! {
        end = relay(&mut running) => end,
        never = forward(signals, &remote) => match never {},
    };
    // What the person types from now on is for someone else.
    feeding.shutdown().await;
    drop(raw);
    match end? {
        End::Code(code) => Ok(code),
        End::Signal(signal) => Ok(128 + signal),
        End::NotStarted { errno, what } => Err(BottleError::NotStarted { errno, what }),
        End::TimedOut => Err(BottleError::CommandEnded),
        End::OutOfMemory => Err(BottleError::OutOfMemory),
    }
}

fn terminal(what: &'static str) -> impl FnOnce(io::Error) -> BottleError {
    move |source| BottleError::Terminal { what, source }
}

/// Rows and columns of the person's terminal.
fn size() -> Option<(u16, u16)> {
    let (Width(columns), Height(rows)) = terminal_size_of(io::stdin())?;
    Some((rows, columns))
}

/// Writes what the command writes, until it has ended.
async fn relay(running: &mut Running) -> Result<End, BottleError> {
    let (mut stdout, mut stderr) = (Some(tokio::io::stdout()), Some(tokio::io::stderr()));
    loop {
        let written = match running.next().await? {
            Event::Stdout(bytes) => pass(&mut stdout, &bytes).await,
            Event::Stderr(bytes) => pass(&mut stderr, &bytes).await,
            Event::Ended(ended) => return Ok(ended.end),
        };
        if written.is_err() {
            // As if the command had written to that pipe by itself.
            running.signal(PIPE);
        }
    }
}

/// Writes to a stream as long as there is somebody who reads it.
async fn pass(
    stream: &mut Option<impl tokio::io::AsyncWrite + Unpin>,
    bytes: &[u8],
) -> io::Result<()> {
    let Some(out) = stream else { return Ok(()) };
    let written = match out.write_all(bytes).await {
        Ok(()) => out.flush().await,
        Err(error) => Err(error),
    };
    if written.is_err() {
        *stream = None;
    }
    written
}

/// Passes on what the person types, and the end of it.
async fn feed(mut keys: Keys, mut stdin: Stdin) {
    while let Some(bytes) = keys.bytes.recv().await {
        if stdin.write(&bytes).await.is_err() {
            return;
        }
    }
}

/// The signals that are passed on.
struct Signals {
    resized: Signal,
    hung_up: Signal,
    terminated: Signal,
    interrupted: Signal,
}

impl Signals {
    fn listen() -> Result<Self, BottleError> {
        let listen = |kind| signal(kind).map_err(terminal("listen for signals"));
        Ok(Self {
            resized: listen(SignalKind::window_change())?,
            hung_up: listen(SignalKind::hangup())?,
            terminated: listen(SignalKind::terminate())?,
            interrupted: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.resized.recv() => Asked::Resize,
            _ = self.interrupted.recv() => Asked::End(INTERRUPT),
            _ = self.hung_up.recv() => Asked::End(HANGUP),
            _ = self.terminated.recv() => Asked::End(TERMINATE),
        }
    }

    /// Waits for a signal that asks to end, and returns its number.
    async fn end(&mut self) -> u8 {
        loop {
            if let Asked::End(signal) = self.next().await {
                return signal;
            }
        }
    }
}

/// What a signal asks for.
enum Asked {
    /// The person's terminal has another size.
    Resize,
    /// To end, by the signal with this number.
    End(u8),
}

/// Passes on the terminal's size as it is now, and then signals, for ever.
async fn forward(mut signals: Signals, remote: &Remote) -> std::convert::Infallible {
    let mut asked = Asked::Resize;
    let mut polite = true;
    loop {
        match asked {
            Asked::Resize => {
                if let Some((rows, columns)) = size() {
                    remote.resize(rows, columns);
                }
            }
            Asked::End(INTERRUPT) => remote.signal(INTERRUPT),
            Asked::End(_) => {
                remote.signal(if polite { HANGUP } else { KILL });
                polite = false;
            }
        }
        asked = signals.next().await;
    }
}

/// Puts a terminal into raw mode, and back when it is dropped: after an error, while unwinding from a panic, and when
/// the future that holds it is dropped.
struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    fn enter(terminal: OwnedFd) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // It may be gone.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// What the person types, read by a thread of its own.
///
/// tokio's standard input would go on waiting for a key when the command has ended, and take it from whoever comes
/// next; and to make the descriptor non-blocking would make it so for everyone who shares the terminal.
struct Keys {
    bytes: mpsc::Receiver<Vec<u8>>,
    /// The thread ends when this closes.
    _alive: io::PipeWriter,
}

impl Keys {
    fn listen() -> io::Result<Self> {
        let source = io::stdin().as_fd().try_clone_to_owned()?;
        let (ended, alive) = io::pipe()?;
        let (sender, bytes) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || read_keys(File::from(source), &ended, &sender))?;
        Ok(Self { bytes, _alive: alive })
    }
}

fn read_keys(mut source: File, ended: &io::PipeReader, sender: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; PORTION];
    loop {
        let mut wait = [
            PollFd::new(source.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut wait, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) if wait[1].any().unwrap_or(true) => return,
            Ok(_) => {}
        }
        match source.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal that hung up says EIO.
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        let (terminal, _theirs) = pty_process::blocking::open().unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let while_raw = catch_unwind(AssertUnwindSafe(|| {
            let raw = RawMode::enter(terminal.as_fd().try_clone_to_owned().unwrap()).unwrap();
            std::panic::panic_any(tcgetattr(&raw.terminal).unwrap());
        }));
        let while_raw = while_raw.unwrap_err().downcast::<Termios>().unwrap();
        assert_ne!(*while_raw, before);
        assert_eq!(tcgetattr(&terminal).unwrap(), before);
    }
}
