//! The socket on which the init tells the daemons' states.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use claude_bottle_protocol::supervise::Status;
use nix::sys::stat::{Mode, umask};

/// How many are answered before the init looks at its other work again.
const AT_ONCE: usize = 16;

/// A listening socket, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Answering {
    listener: UnixListener,
    path: PathBuf,
}

impl Answering {
    /// Listens at `path`, for the init's own user. A socket that an earlier init left behind is replaced.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        // `bind` makes the file with what the mask leaves; a `chmod` after it would come too late.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = Self::bind(path);
        umask(before);
        let listener = bound?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    fn bind(path: &Path) -> io::Result<UnixListener> {
        match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => match UnixStream::connect(path) {
                Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(error),
            },
            bound => bound,
        }
    }

    /// What to wait for until somebody asks.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers whoever asks.
    pub(crate) fn answer(&self, status: &Status) {
        let Ok(mut json) = serde_json::to_vec(status) else {
            return;
        };
        json.push(b'\n');
        for _ in 0..AT_ONCE {
            let Ok((mut asker, _)) = self.listener.accept() else {
                return;
            };
            // One that cannot take its answer at once gets none, or an unfinished one.
            let _ = asker.set_nonblocking(true).and_then(|()| asker.write_all(&json));
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
