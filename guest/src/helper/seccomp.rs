//! The bottle's filter on system calls: no socket family that ignores net namespaces, none of the side doors past a
//! filter on `socket(2)`, and no namespaces of its own.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::failure::Failure;

/// The families whose sockets stay within a net namespace, and Unix sockets. `AF_NETLINK` sees only its own
/// namespace, and needs a capability to change anything there.
const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// `io_uring` makes sockets without `socket(2)`, and no filter sees of which family.
const IO_URING: &[libc::c_long] =
    &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Calls that the filter refuses whatever their arguments. A keyring is per user, not per namespace; the others change
/// or watch the system.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
];

/// The flags of `clone(2)` and `unshare(2)` that make namespaces.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Bit 30 of a system call's number on x86-64: the x32 variants, which a filter by number would not know.
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Puts the filter on this process and its children, for good. `namespaces`: whether they may make some, `io_uring`:
/// whether they may use it; both only under a breach.
pub(super) fn apply(namespaces: bool, io_uring: bool) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("put the filter on system calls: {error}"))
    };
    let denied = program(denied(namespaces, io_uring).map_err(|e| failed(&e))?, libc::EPERM);
    seccompiler::apply_filter(&denied.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
    // glibc falls back to clone, whose flags the filter can read; clone3's are behind a pointer.
    let clone3 = Rules::from([(libc::SYS_clone3, vec![])]);
    let absent = program(clone3, libc::ENOSYS).map_err(|e| failed(&e))?;
    seccompiler::apply_filter(&absent).map_err(|e| failed(&e))
}

fn program(rules: Rules, errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    // A call of another architecture (32-bit `int 0x80`) kills the process.
    let (other, matched) = (SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()));
    SeccompFilter::new(rules, other, matched, architecture)?.try_into()
}

fn denied(namespaces: bool, io_uring: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let rings = if io_uring { &[] } else { IO_URING };
    for call in REFUSED.iter().chain(rings) {
        rules.insert(*call, vec![]);
    }
    let foreign = || -> Result<SeccompRule, seccompiler::BackendError> {
        let unlike = |family: &i32| {
            let family = u64::from(family.unsigned_abs());
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
        };
        SeccompRule::new(FAMILIES.iter().map(unlike).collect::<Result<_, _>>()?)
    };
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(call, vec![foreign()?]);
    }
    if !namespaces {
        for call in [libc::SYS_clone, libc::SYS_unshare] {
            rules.insert(call, any_flag(NAMESPACES)?);
        }
    }
    #[cfg(target_arch = "x86_64")]
    for call in rules.keys().copied().collect::<Vec<_>>() {
        rules.insert(call | X32, vec![]);
    }
    Ok(rules)
}

/// One rule per bit of `flags`: the first argument has that bit.
fn any_flag(flags: i32) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let bits = (0..i32::BITS).map(|bit| 1_u64 << bit);
    bits.filter(|bit| u64::from(flags.cast_unsigned()) & bit != 0)
        .map(|bit| {
            let has = SeccompCmpOp::MaskedEq(bit);
            SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, has, bit)?])
        })
        .collect()
}
