//! What only Linux has. Elsewhere it is an error to ask for it, and who would need it is not offered: see
//! [`Requirement::Linux`](crate::host::Requirement::Linux).

pub(crate) use self::here::*;

#[cfg(target_os = "linux")]
mod here {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    use std::path::Path;

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::sys::socket::{
        AddressFamily, Backlog, MsgFlags, SockFlag, SockType, VsockAddr, bind, getsockname, listen,
        socket, socketpair,
    };
    use nix::sys::statvfs::{FsFlags, statvfs};

    /// `VMADDR_CID_LOCAL` and `VMADDR_PORT_ANY` (`linux/vm_sockets.h`). Whoever is beyond this machine cannot reach the former.
    const VSOCK_LOOPBACK: u32 = 1;
    const ANY_VSOCK_PORT: u32 = u32::MAX;

    /// To one that is not there any more is an error, and no signal.
    pub(crate) const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;

    /// An empty file in memory.
    pub(crate) fn memory(name: &str) -> io::Result<File> {
        Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
    }

    /// Two sockets that whole messages are sent over.
    pub(crate) fn messages() -> io::Result<(OwnedFd, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
    }

    /// A Unix socket's address that is no file.
    pub(crate) fn abstract_address(name: &str) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(name)
    }

    /// Whether nothing below `place` can be executed, as it is mounted.
    pub(crate) fn is_noexec(place: &Path) -> bool {
        statvfs(place).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC))
    }

    /// Asks for a user namespace *and* for something that `unshare` never does, so that the kernel refuses with
    /// EINVAL before it looks at anything else. A seccomp filter comes before the kernel's own checks: if it is
    /// what refuses, the error is another one (Docker's default filter: EPERM).
    pub(crate) fn ask_unshare() -> io::Result<()> {
        match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_PARENT) {
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A socket bound to CID 1, which the kernel allows only where the loopback transport is registered
    /// (`vsock_find_cid` in `net/vmw_vsock/af_vsock.c`); nothing is dialled.
    pub(crate) fn bind_vsock_loopback() -> io::Result<OwnedFd> {
        let socket = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(socket.as_raw_fd(), &VsockAddr::new(VSOCK_LOOPBACK, ANY_VSOCK_PORT))?;
        Ok(socket)
    }

    /// A listener on the vsock loopback, and the port that the kernel has chosen.
    pub(crate) fn listen_on_vsock_loopback() -> io::Result<(u32, OwnedFd)> {
        let socket = bind_vsock_loopback()?;
        listen(&socket, Backlog::MAXCONN)?;
        let address: VsockAddr = getsockname(socket.as_raw_fd())?;
        Ok((address.port(), socket))
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::SocketAddr;
    use std::path::Path;

    use nix::sys::socket::MsgFlags;

    pub(crate) const NO_SIGNAL: MsgFlags = MsgFlags::empty();

    pub(crate) fn memory(_: &str) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn messages() -> io::Result<(OwnedFd, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn abstract_address(_: &str) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn is_noexec(_: &Path) -> bool {
        false
    }

    pub(crate) fn ask_unshare() -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn bind_vsock_loopback() -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn listen_on_vsock_loopback() -> io::Result<(u32, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
