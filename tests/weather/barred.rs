//! A machine on which no user namespace can be made, and whether this one is.

use std::path::PathBuf;

use claude_bottle::host::Host;
use libtest_mimic::Trial;

use crate::run::{Marked, program};
use crate::trials::{needs_user_namespaces, skip, trials};

/// The command in a user namespace of its own that may hold no further one: the machine itself stays as it is.
fn barred(command: &str, arguments: &[&str]) -> Marked {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
    Marked::of("unshare")
        .args(&["--user", "--map-root-user", "sh", "-c", script, command])
        .args(arguments)
}

const REASON: &str = "user.max_user_namespaces is 0";

fn nothing_runs_and_it_says_what_to_do() {
    needs_user_namespaces();
    let ended = barred(program(), &["probe"]).ends();
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(ended.out.contains(REASON) && ended.out.contains("sysctl -w"), "{}", ended.out);
    assert!(!ended.out.contains("contained"), "{}", ended.out);

    let ended = barred(program(), &["probe", "--breach", "all"]).ends();
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(ended.out.contains(REASON), "{}", ended.out);

    let ended = barred(program(), &["probe", "--list"]).ends();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.out.contains(REASON), "{}", ended.out);

    let ended = barred(program(), &["doctor"]).ends();
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(ended.out.contains(REASON), "{}", ended.out);
}

/// Memory may not be executed: a security policy of many hardened machines (`vm.memfd_noexec`, `sysctl`(8)), here of a PID
/// namespace alone. The toolbox is then started from a file without a name.
fn memory_that_may_not_be_executed_is_gone_around() {
    needs_user_namespaces();
    let in_such = |script: &str| {
        let arguments =
            ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "sh", "-c"];
        let script = format!("echo 2 > /proc/sys/vm/memfd_noexec && {script}");
        Marked::of("unshare").args(&arguments).args(&[&script, program()])
    };
    // It is there since Linux 6.3, and since 6.6 as a property of a PID namespace.
    if in_such("test $(cat /proc/sys/vm/memfd_noexec) = 2").ends().code() != 0 {
        skip("vm.memfd_noexec cannot be set for a PID namespace here");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("UTF-8");
    let ended = in_such("exec \"$0\" probe smoke-echo bundle-reach").env("TMPDIR", folder).ends();
    assert_eq!(ended.code(), 0, "{ended:?}");
    let left: Vec<_> = std::fs::read_dir(folder).expect("the folder").collect();
    assert!(left.is_empty(), "{left:?}");

    // Nowhere else to go: it says what it tried. The program may lie in one of those folders itself.
    let nowhere = "exec 3<\"$0\" && mount -t tmpfs -o noexec none /var/tmp && mount -t tmpfs -o noexec none /dev/shm && \
                   mount -t tmpfs -o noexec none /tmp && exec /proc/self/fd/3 probe smoke-echo";
    let ended =
        in_such(&format!("unshare --mount sh -c '{nowhere}' \"$0\"")).env("TMPDIR", "/tmp").ends();
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(ended.out.contains("cannot put the toolbox where it can be executed"), "{}", ended.out);
}

/// Reality: `unshare`(1) makes one, or does not.
fn what_is_detected_is_what_this_machine_does() {
    let made = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "true"])
        .output()
        .expect("unshare, of util-linux");
    let found = Host::detect().user_namespaces;
    let said = String::from_utf8_lossy(&made.stderr);
    assert_eq!(found.is_ok(), made.status.success(), "{found:?}, and unshare said {said}");
}

/// `cargo test --test probes`, as far as it was built.
fn the_test_suite_ignores_with_the_reason() {
    needs_user_namespaces();
    for suite in ["probes", "breaches"] {
        let Some(binary) = built(suite) else {
            skip(format!("tests/{suite}.rs was not built"));
        };
        let folder = tempfile::tempdir().expect("a folder");
        let junit = folder.path().join("junit.xml");
        let run = barred(binary.to_str().expect("UTF-8"), &["namespace::", "--skip", "docker::"]);
        let ended = run.env("CLAUDE_BOTTLE_JUNIT", junit.to_str().expect("UTF-8")).ends();
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.out.contains("0 passed; 0 failed"), "{}", ended.out);
        assert!(ended.out.contains(REASON), "{}", ended.out);
        if suite == "probes" {
            let report = std::fs::read_to_string(&junit).expect("a report");
            let document = roxmltree::Document::parse(&report).expect("XML");
            let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
            for case in cases {
                let skipped = case.children().find(|child| child.has_tag_name("skipped"));
                let message = skipped.and_then(|node| node.attribute("message"));
                assert!(message.is_some_and(|message| message.contains(REASON)), "{report}");
            }
        }
    }
}

/// The newest build of another test beside this one.
fn built(suite: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().expect("this test");
    let entries = std::fs::read_dir(own.parent().expect("its folder")).expect("its folder");
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().into_string().unwrap_or_default();
            let hash = name.strip_prefix(suite).and_then(|rest| rest.strip_prefix('-'));
            hash.is_some_and(|hash| hash.chars().all(|c| c.is_ascii_hexdigit()))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        what_is_detected_is_what_this_machine_does,
        nothing_runs_and_it_says_what_to_do,
        memory_that_may_not_be_executed_is_gone_around,
        the_test_suite_ignores_with_the_reason,
    ]
}
