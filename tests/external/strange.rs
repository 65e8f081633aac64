//! Sandboxes in which something is not as it usually is.

use std::os::unix::fs::PermissionsExt as _;

use libtest_mimic::Trial;

use crate::suite::{BARE, WITH_TOOLBOX, needs_bubblewrap, told, works};
use crate::trials::{skip, trials};

fn one_that_intercepts_cannot_be_judged() {
    // Every connection ends at a witness of its own, which answers as ours would.
    let listens = r#"{\"groups\":[[{\"id\":1,\"transport\":\"tcp\",\"address\":\"0.0.0.0:7777\"}]],\"sockets\":[]}"#;
    let redirect = "iptables -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 7777";
    // Every address is this machine's own in there.
    let everywhere = "ip route add local 0.0.0.0/0 dev lo";
    let closed =
        format!("{WITH_TOOLBOX} --unshare-net --unshare-user --uid 0 --gid 0 --cap-add ALL");
    if !works(&format!(
        "{BARE} --unshare-net --unshare-user --uid 0 --gid 0 --cap-add ALL sh -c '{everywhere} && {redirect}'"
    )) {
        skip("no bubblewrap, ip or iptables, or no rule can be made here");
    }
    let script = format!(
        "{everywhere}; {redirect}; mkfifo /tmp/out; exec 4<>/tmp/out; \
         (echo \"{listens}\"; sleep 60) | /tmp/in/toolbox witness >/tmp/out & read _ <&4; exec /tmp/in/toolbox"
    );
    let text = told(&format!("{closed} sh -c '{script}'"), 3);
    assert!(
        text.contains("something intercepts: the prober says answered, yet nothing arrived"),
        "{text}"
    );
    assert!(!text.contains("Not as it should be"), "{text}");
}

fn one_without_a_shell_says_so_and_takes_the_toolbox_itself() {
    needs_bubblewrap();
    let empty = "bwrap --tmpfs / --proc /proc --dev /dev --unshare-all --ro-bind {dir} /in";
    told(&format!("{empty} /in/toolbox"), 0);
    let text = told(&format!("{empty} sh"), 3);
    assert!(text.contains("execvp sh: No such file or directory"), "{text}");
}

fn one_in_which_nothing_can_be_executed_says_so() {
    needs_bubblewrap();
    // A file system that is only read, and folders from which nothing is executed.
    let read_only =
        "bwrap --ro-bind / / --proc /proc --dev /dev --remount-ro /dev --unshare-net --chdir /";
    let noexec = format!(
        "{BARE} --unshare-net --remount-ro /tmp --remount-ro /run --remount-ro /var --remount-ro /dev"
    );
    for command in [read_only, &noexec] {
        let text = told(command, 3);
        assert!(text.contains("no folder in there can be written to and executed from"), "{text}");
    }
}

fn another_kind_of_machine_is_told() {
    // A folder with an uname of another machine's, first in the path.
    let folder = tempfile::tempdir().unwrap();
    let uname = folder.path().join("uname");
    std::fs::write(&uname, "#!/bin/sh\necho riscv64\n").unwrap();
    std::fs::set_permissions(&uname, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let text = told(&format!("env PATH={path} sh -c"), 3);
    assert!(text.contains("and this machine is of the kind riscv64"), "{text}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        one_that_intercepts_cannot_be_judged,
        one_without_a_shell_says_so_and_takes_the_toolbox_itself,
        one_in_which_nothing_can_be_executed_says_so,
        another_kind_of_machine_is_told,
    ]
}
