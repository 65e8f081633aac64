//! Pseudo-terminals.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, unlockpt};
use nix::sys::termios::{InputFlags, SetArg, tcgetattr, tcsetattr};

nix::ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, libc::winsize);

/// Makes a pseudo-terminal of this size: our end, and the one for the command.
pub(crate) fn open(rows: u16, columns: u16) -> nix::Result<(OwnedFd, OwnedFd)> {
    let ours = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // By descriptor, not by name: in a small root file system the name may lead nowhere, or elsewhere.
    // SAFETY: takes numbers, no pointer.
    let theirs =
        nix::Error::result(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel has just made it for this process; nothing else owns it.
    let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
    let mut settings = tcgetattr(&theirs)?;
    // Erase whole characters, not bytes.
    settings.input_flags.insert(InputFlags::IUTF8);
    tcsetattr(&theirs, SetArg::TCSANOW, &settings)?;
    let ours = OwnedFd::from(ours);
    resize(std::os::fd::AsFd::as_fd(&ours), rows, columns)?;
    Ok((ours, theirs))
}

/// Sets the size; the kernel tells the programs in the foreground (SIGWINCH).
pub(crate) fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, from where the pointer points.
    unsafe { tiocswinsz(terminal.as_raw_fd(), &raw const size) }?;
    Ok(())
}
