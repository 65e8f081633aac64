//! Whether this user can make user namespaces, and if not, which of the kernel's gates is shut.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::detect::Detect;
use super::facts::{Lack, UserNamespaces};

/// Tries every gate that can be seen without making a namespace.
pub(super) fn find(detect: &Detect<'_>) -> Result<UserNamespaces, Lack> {
    if !detect.linux() {
        return Err(Lack::new("only Linux has them"));
    }
    let gates: [fn(&Detect<'_>) -> Option<Lack>; 6] = [
        no_kernel_support,
        none_allowed,
        only_for_root_by_debian,
        restricted_by_apparmor,
        refused_by_seccomp,
        in_a_chroot,
    ];
    match gates.iter().find_map(|shut| shut(detect)) {
        Some(lack) => Err(lack),
        None => Ok(UserNamespaces { limit: limit(detect) }),
    }
}

fn no_kernel_support(detect: &Detect<'_>) -> Option<Lack> {
    // A symbolic link to nowhere: `exists` would follow it.
    let there = |path| fs::symlink_metadata(detect.path(path)).is_ok();
    if !there("/proc/self/ns") {
        Some(Lack::new("/proc is not mounted").fixed_by("mount -t proc proc /proc"))
    } else if !there("/proc/self/ns/user") {
        Some(
            Lack::new("the kernel was built without them")
                .fixed_by("use a kernel with CONFIG_USER_NS=y"),
        )
    } else {
        None
    }
}

/// How many a user may have, since Linux 4.9: see namespaces(7).
fn limit(detect: &Detect<'_>) -> Option<u64> {
    detect.read("/proc/sys/user/max_user_namespaces")?.parse().ok()
}

fn none_allowed(detect: &Detect<'_>) -> Option<Lack> {
    (limit(detect) == Some(0)).then(|| {
        Lack::new("user.max_user_namespaces is 0")
            .fixed_by("as root: sysctl -w user.max_user_namespaces=15000")
    })
}

/// Debian's own switch (and Arch's, for its hardened kernel).
fn only_for_root_by_debian(detect: &Detect<'_>) -> Option<Lack> {
    let off = detect.read("/proc/sys/kernel/unprivileged_userns_clone")? == "0";
    (off && detect.euid != 0).then(|| {
        Lack::new("kernel.unprivileged_userns_clone is 0, which leaves them to root")
            .fixed_by("as root: sysctl -w kernel.unprivileged_userns_clone=1")
    })
}

/// Ubuntu since 23.10: an unconfined process gets a namespace without capabilities in it. Under a profile of its own
/// it is the profile that decides.
/// <https://ubuntu.com/blog/ubuntu-23-10-restricted-unprivileged-user-namespaces>
fn restricted_by_apparmor(detect: &Detect<'_>) -> Option<Lack> {
    let on = detect.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")? == "1";
    let unconfined = detect
        .read("/proc/self/attr/apparmor/current")
        .is_none_or(|profile| profile == "unconfined");
    (on && unconfined && detect.euid != 0).then(|| {
        Lack::new("kernel.apparmor_restrict_unprivileged_userns is 1").fixed_by(
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, \
             or give this program an AppArmor profile with the rule `userns,`",
        )
    })
}

/// Docker's default filter refuses `unshare` to whoever lacks CAP_SYS_ADMIN, its root included.
fn refused_by_seccomp(detect: &Detect<'_>) -> Option<Lack> {
    let status = detect.read("/proc/self/status")?;
    let filtered = status
        .lines()
        .filter_map(|line| line.strip_prefix("Seccomp:"))
        .any(|mode| mode.trim() == "2");
    if !filtered {
        return None;
    }
    let error = (detect.calls.ask_unshare)().err()?;
    Some(Lack::new(format!("a seccomp filter refuses unshare: {error}")).fixed_by(
        "run outside of the container, or start it with a filter that allows unshare, \
             such as --security-opt seccomp=unconfined",
    ))
}

/// `EPERM: The caller is in a chroot environment`: user_namespaces(7), since Linux 3.9.
///
/// Two ways to tell: in a plain folder nothing is mounted on `/`; and a root folder other than that of PID 1, if both
/// live in one mount namespace. The latter takes root's rights. A user's chroot to a mount point, or one in a mount
/// namespace of its own, goes unnoticed here.
fn in_a_chroot(detect: &Detect<'_>) -> Option<Lack> {
    let nothing_on_root =
        detect.read("/proc/self/mountinfo").is_some_and(|mounts| !mounts.lines().any(is_on_root));
    (nothing_on_root || differs_from_init(detect).unwrap_or(false)).then(|| {
        Lack::new("this is a chroot, in which the kernel makes none").fixed_by(
            "run outside of it, or enter the folder by pivot_root, as bwrap or systemd-nspawn do",
        )
    })
}

/// Whether a line of `/proc/self/mountinfo` shows the mount point `/`: its fifth field, see proc_pid_mountinfo(5).
fn is_on_root(line: &str) -> bool {
    line.split(' ').nth(4) == Some("/")
}

fn differs_from_init(detect: &Detect<'_>) -> Option<bool> {
    let mounts = |path| fs::read_link(detect.path(path)).ok();
    if mounts("/proc/1/ns/mnt")? != mounts("/proc/self/ns/mnt")? {
        return Some(false);
    }
    let folder =
        |path| fs::metadata(detect.path(path)).ok().map(|folder| (folder.dev(), folder.ino()));
    Some(folder("/proc/1/root")? != folder("/")?)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::super::detect::tests::Machine;
    use super::*;

    fn why(machine: &Machine) -> String {
        match machine.host().user_namespaces {
            Ok(_) => "usable".to_owned(),
            Err(lack) => lack.to_string(),
        }
    }

    #[test]
    fn usable_with_the_limit() {
        let machine = Machine::new();
        assert_eq!(machine.host().user_namespaces, Ok(UserNamespaces { limit: Some(96365) }));
        machine.remove("/proc/sys/user/max_user_namespaces");
        assert_eq!(
            machine.host().user_namespaces,
            Ok(UserNamespaces { limit: None }),
            "Linux before 4.9 has no limit"
        );
    }

    #[test]
    fn without_proc() {
        let machine = Machine::new();
        machine.remove("/proc");
        assert_eq!(why(&machine), "/proc is not mounted (mount -t proc proc /proc)");
    }

    #[test]
    fn without_kernel_support() {
        let machine = Machine::new();
        machine.remove("/proc/self/ns/user");
        assert_eq!(
            why(&machine),
            "the kernel was built without them (use a kernel with CONFIG_USER_NS=y)"
        );
    }

    #[test]
    fn switched_off_for_all() {
        for euid in [0, 1000] {
            let mut machine = Machine::new();
            machine.euid = euid;
            machine.write("/proc/sys/user/max_user_namespaces", "0\n");
            assert_eq!(
                why(&machine),
                "user.max_user_namespaces is 0 (as root: sysctl -w user.max_user_namespaces=15000)"
            );
        }
    }

    /// Sets a switch and tells what comes of it, for root and for another user.
    fn switched(path: &str, value: &str) -> [String; 2] {
        [0, 1000].map(|euid| {
            let mut machine = Machine::new();
            machine.euid = euid;
            machine.write(path, value);
            why(&machine)
        })
    }

    #[test]
    fn debians_switch_shuts_out_all_but_root() {
        let path = "/proc/sys/kernel/unprivileged_userns_clone";
        assert_eq!(switched(path, "1\n"), ["usable", "usable"]);
        assert_eq!(
            switched(path, "0\n"),
            [
                "usable",
                "kernel.unprivileged_userns_clone is 0, which leaves them to root \
                 (as root: sysctl -w kernel.unprivileged_userns_clone=1)"
            ]
        );
    }

    #[test]
    fn ubuntus_switch_shuts_out_all_but_root() {
        let path = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
        assert_eq!(switched(path, "0\n"), ["usable", "usable"]);
        assert_eq!(
            switched(path, "1\n"),
            [
                "usable",
                "kernel.apparmor_restrict_unprivileged_userns is 1 \
                 (as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, \
                 or give this program an AppArmor profile with the rule `userns,`)"
            ]
        );
    }

    #[test]
    fn an_apparmor_profile_of_its_own_is_not_second_guessed() {
        let machine = Machine::new();
        machine.write("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        for (profile, usable) in [("unconfined\n", false), ("claude-bottle (unconfined)\n", true)] {
            machine.write("/proc/self/attr/apparmor/current", profile);
            assert_eq!(machine.host().user_namespaces.is_ok(), usable, "{profile}");
        }
    }

    #[test]
    fn a_seccomp_filter_is_asked_only_where_there_is_one() {
        let mut machine = Machine::new();
        machine.calls.ask_unshare = || Err(io::Error::from_raw_os_error(1));
        assert_eq!(why(&machine), "usable");
        machine.write("/proc/self/status", "Name:\ttest\nSeccomp:\t2\n");
        assert_eq!(
            why(&machine),
            "a seccomp filter refuses unshare: Operation not permitted (os error 1) \
             (run outside of the container, or start it with a filter that allows unshare, \
             such as --security-opt seccomp=unconfined)"
        );
        machine.calls.ask_unshare = || Ok(());
        assert_eq!(why(&machine), "usable", "many a filter allows it");
    }

    const CHROOT: &str = "this is a chroot, in which the kernel makes none \
        (run outside of it, or enter the folder by pivot_root, as bwrap or systemd-nspawn do)";

    #[test]
    fn a_chroot_to_a_plain_folder() {
        let machine = Machine::new();
        machine.write(
            "/proc/self/mountinfo",
            "22 27 0:21 / /proc rw - proc proc rw\n23 27 0:5 / /dev rw - devtmpfs dev rw\n",
        );
        assert_eq!(why(&machine), CHROOT);
        machine.remove("/proc/self/mountinfo");
        assert_eq!(why(&machine), "usable", "nothing is known");
    }

    #[test]
    fn a_chroot_to_a_mount_point() {
        let elsewhere = tempfile::tempdir().expect("temporary folder");
        let told = |init_lives_in, init_sees: &dyn Fn(&Machine) -> PathBuf| {
            let machine = Machine::new();
            machine.link("/proc/self/ns/mnt", "mnt:[1]");
            machine.link("/proc/1/ns/mnt", init_lives_in);
            machine.link("/proc/1/root", init_sees(&machine));
            why(&machine)
        };
        let other = |_: &Machine| elsewhere.path().to_owned();
        let same = |machine: &Machine| machine.root().to_owned();
        assert_eq!(told("mnt:[1]", &other), CHROOT);
        assert_eq!(told("mnt:[1]", &same), "usable");
        assert_eq!(told("mnt:[2]", &other), "usable", "in a container");
    }
}
