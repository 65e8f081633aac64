//! The 32-bit system calls that a 64-bit x86 kernel serves as well (`CONFIG_IA32_EMULATION`), by `int 0x80`: the
//! numbers are other ones, so a filter that knows the 64-bit ones alone lets them pass.

use std::arch::asm;

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, SockaddrLike as _};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// `socket` in `arch/x86/entry/syscalls/syscall_32.tbl`: takes its arguments in registers, unlike `socketcall`.
const SOCKET: i64 = 359;

/// How the child that tried ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every frame left.
    Sent,
    /// The call failed.
    Failed(Errno),
    /// Killed: by `SIGSYS`, a filter did it; by `SIGSEGV`, the kernel serves no such calls.
    Killed(nix::sys::signal::Signal),
}

/// Makes a packet socket by the 32-bit call and sends each frame to its interface, in a child process: a filter may
/// kill whoever makes such a call.
pub(crate) fn send(frames: &[(Vec<u8>, LinkAddr)]) -> nix::Result<Ended> {
    // SAFETY: the child makes system calls on memory that exists already, and ends by `_exit`; it neither allocates nor
    // takes a lock that another thread could have held.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => child_main(frames),
    };
    loop {
        return match waitpid(child, None) {
            Err(Errno::EINTR) => continue,
            Ok(WaitStatus::Exited(_, 0)) => Ok(Ended::Sent),
            Ok(WaitStatus::Exited(_, errno)) => Ok(Ended::Failed(Errno::from_raw(errno))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Ended::Killed(signal)),
            Ok(_) => Err(Errno::ECHILD),
            Err(errno) => Err(errno),
        };
    }
}

fn child_main(frames: &[(Vec<u8>, LinkAddr)]) -> ! {
    // SAFETY: numbers alone. Nobody wants the core of a process whose death is expected.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
    let mut code = if socket < 0 { -socket } else { 0 };
    if socket >= 0 {
        for (frame, interface) in frames {
            // SAFETY: frame and address live across the call and are as long as it is told.
            let sent = unsafe {
                let (data, length) = (frame.as_ptr().cast(), frame.len());
                libc::sendto(socket, data, length, 0, interface.as_ptr(), interface.len())
            };
            if sent < 0 {
                code = Errno::last_raw();
            }
        }
    }
    // SAFETY: ends the process, running nothing of what its parent registered.
    unsafe { libc::_exit(code) }
}

/// The 32-bit `socket`; a descriptor, or a negated errno.
fn socket(family: i32, kind: i32, protocol: i32) -> i32 {
    let answer: i64;
    // SAFETY: the call reads registers alone, and touches no memory. `rbx`, which the compiler keeps for itself, gets
    // back what it held; the kernel may clear r8 to r11.
    unsafe {
        asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) i64::from(family) => _,
            inlateout("rax") SOCKET => answer,
            in("rcx") i64::from(kind),
            in("rdx") i64::from(protocol),
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    // The 32-bit call's answer is the lower half.
    #[expect(clippy::cast_possible_truncation)]
    {
        answer as i32
    }
}
