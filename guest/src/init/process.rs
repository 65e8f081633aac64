//! A daemon's process: how it is started, the files that it is given, and the pipes that its output comes through.

use std::ffi::{CString, NulError};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;

use claude_bottle_protocol::daemons::Entry;
use claude_bottle_protocol::session::End;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2, read};

use super::lines::{Lines, render};
use super::log::Log;

/// The longest path in an error, in bytes as the daemon table has them.
const MAX_PATH: usize = 128;

/// What daemons get as standard input: nothing.
pub(crate) fn nothing() -> Result<OwnedFd, Errno> {
    open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        // A root file system without devices: a pipe that nobody writes to is at its end, too.
        .or_else(|_| pipe2(OFlag::O_CLOEXEC).map(|(reader, _writer)| reader))
}

/// One of a daemon's output streams. Its pipe outlives the process: what is left behind by one that ended, and what
/// its orphans still say, comes through it as well.
#[derive(Debug)]
pub(crate) struct Stream {
    reader: OwnedFd,
    writer: OwnedFd,
    lines: Lines,
}

impl Stream {
    pub(crate) fn new() -> Result<Self, Errno> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        // Only this end: the daemon's own is an ordinary blocking one.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { reader, writer, lines: Lines::default() })
    }

    /// What to wait for until something can be read.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Reads once and logs the lines that are finished by it, so that no flood keeps the init from its other work;
    /// whether there was anything.
    pub(crate) fn pass_on(&mut self, name: &str, log: &mut Log) -> bool {
        let mut buffer = [0; 8 * 1024];
        let Ok(length @ 1..) = read(&self.reader, &mut buffer) else {
            return false;
        };
        self.lines.feed(&buffer[..length], |line, cut| log.line(name, line, cut));
        true
    }

    /// Logs what a process that has ended left in the pipe, an unfinished line included.
    pub(crate) fn end(&mut self, name: &str, log: &mut Log) {
        // A pipe holds 64 KiB (pipe(7)), at most 1 MiB if it was enlarged. Whatever comes beyond is an orphan's
        // and has time.
        let mut reads = 0;
        while reads < 128 && self.pass_on(name, log) {
            reads += 1;
        }
        self.lines.end(|line, cut| log.line(name, line, cut));
    }
}

/// Starts a daemon as the leader of a process group of its own, with every signal at its default and none blocked. Its files
/// are written before, each time: an earlier life of it may have changed them.
pub(crate) fn start(
    entry: &Entry,
    stdin: &OwnedFd,
    stdout: &Stream,
    stderr: &Stream,
) -> Result<Pid, End> {
    for (path, content) in &entry.files {
        write_file(path, content).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(Errno::EIO as i32);
            End::NotStarted { errno, what: shown("write ", path) }
        })?;
    }
    let attempt = || {
        // A table holds no NUL, nor does the environment.
        let argv = entry.argv.iter().map(|text| CString::new(text.as_str()));
        let argv = argv.collect::<Result<Vec<CString>, NulError>>().map_err(|_| Errno::EINVAL)?;
        let program = argv.first().ok_or(Errno::EINVAL)?;
        let env = environment(entry).map_err(|_| Errno::EINVAL)?;

        let mut actions = PosixSpawnFileActions::init()?;
        for (from, to) in [(stdin, 0), (&stdout.writer, 1), (&stderr.writer, 2)] {
            actions.add_dup2(from.as_raw_fd(), to)?;
        }
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
        )?;
        attributes.set_pgroup(Pid::from_raw(0))?;
        attributes.set_sigdefault(&SigSet::all())?;
        attributes.set_sigmask(&SigSet::empty())?;
        posix_spawnp(program, &actions, &attributes, &argv, &env)
    };
    attempt().map_err(|errno| not_started(entry, errno))
}

/// Whoever reads it while it is written gets the old one or the new one. What was there is replaced, and no link is followed.
fn write_file(path: &str, content: &str) -> io::Result<()> {
    let new = format!("{path}.new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content.as_bytes())?;
    fs::rename(new, path)
}

fn not_started(entry: &Entry, errno: Errno) -> End {
    let program = entry.argv.first().map_or("", String::as_str);
    End::NotStarted { errno: errno as i32, what: shown("start ", program) }
}

/// What was tried, with a path in it that may hold anything.
fn shown(doing: &str, path: &str) -> String {
    let path = path.as_bytes();
    let shown = &path[..path.len().min(MAX_PATH)];
    let mut what = doing.to_owned();
    render(shown, (path.len() - shown.len()) as u64, &mut what);
    what
}

fn environment(entry: &Entry) -> Result<Vec<CString>, NulError> {
    let inherited = std::env::vars_os()
        .filter(|(name, _)| !name.to_str().is_some_and(|name| entry.env.contains_key(name)))
        .map(|(name, value)| [name.into_vec(), b"=".to_vec(), value.into_vec()].concat());
    let own = entry.env.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    inherited.chain(own).map(CString::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named_harmlessly() {
        let entry = |program: &str| Entry {
            argv: vec![program.to_owned()],
            env: std::collections::BTreeMap::new(),
            files: std::collections::BTreeMap::new(),
            ready_port: None,
            ready_address: None,
        };
        let (stdin, out, err) =
            (nothing().unwrap(), Stream::new().unwrap(), Stream::new().unwrap());
        let end = start(&entry("/nowhere/\u{1b}x"), &stdin, &out, &err);
        let what = r"start /nowhere/\x1bx".to_owned();
        assert_eq!(end, Err(End::NotStarted { errno: libc::ENOENT, what }));
        let what = format!("start /{}… [1 bytes cut]", "y".repeat(MAX_PATH - 1));
        let end = not_started(&entry(&format!("/{}", "y".repeat(MAX_PATH))), Errno::EACCES);
        assert_eq!(end, End::NotStarted { errno: libc::EACCES, what });
    }

    #[test]
    fn the_tables_variables_win() {
        let own = ("PATH".to_owned(), "/own".to_owned());
        let entry = Entry {
            argv: vec![],
            env: [own].into(),
            files: std::collections::BTreeMap::new(),
            ready_port: None,
            ready_address: None,
        };
        let environment = environment(&entry).unwrap();
        let path: Vec<_> =
            environment.iter().filter(|v| v.as_bytes().starts_with(b"PATH=")).collect();
        assert_eq!(path, [c"PATH=/own"]);
    }
}
