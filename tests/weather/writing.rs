//! Places that reports and temporary files go to.

use std::path::Path;

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::run::{Marked, Who, program};
use crate::trials::{needs_user_namespaces, skip, trials};

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn neither_home_nor_a_temporary_folder_is_needed() {
    needs_user_namespaces();
    for temporary in ["/nowhere", "/proc"] {
        let mut run = Marked::program(Who::Myself, &["probe", "-q"]).env("TMPDIR", temporary);
        run.command.env_remove("HOME").env_remove("XDG_RUNTIME_DIR");
        let ended = run.ends();
        assert_eq!((ended.code(), ended.err.as_str()), (0, ""), "{temporary}: {}", ended.out);
    }
    let empty = tempfile::tempdir().expect("a folder");
    let path = empty.path().to_str().expect("UTF-8");
    assert_eq!(Marked::program(Who::Myself, &["probe", "-q"]).env("TMPDIR", path).ends().code(), 0);
    assert_eq!(entries(empty.path()), [] as [&str; 0]);
}

/// A PID namespace in which memory cannot be executed (`vm.memfd_noexec`, Linux 6.3), and the program in it.
fn without_executable_memory(who: &str, arguments: &str) -> Marked {
    let script =
        format!("echo 2 > /proc/sys/vm/memfd_noexec || exit 77; exec {who} \"$0\" {arguments}");
    let unshare = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"];
    let run = || Marked::of("unshare").args(&unshare);
    let tried = run().args(&["echo 2 > /proc/sys/vm/memfd_noexec"]).ends();
    if !tried.status.success() {
        skip(format!("vm.memfd_noexec cannot be set here: {}", tried.err.trim()));
    }
    run().args(&[&script, program()])
}

fn where_memory_cannot_be_executed_a_file_is_and_it_is_not_left() {
    needs_user_namespaces();
    let temporary = tempfile::tempdir().expect("a folder");
    let path = temporary.path().to_str().expect("UTF-8");
    let run = without_executable_memory("", "probe -q");
    let ended = run.env("TMPDIR", path).ends();
    assert_eq!((ended.code(), ended.err.as_str()), (0, ""), "{}", ended.out);
    assert_eq!(entries(temporary.path()), [] as [&str; 0]);

    // Not even of one that is killed.
    let run = without_executable_memory("", "probe -q");
    let mut run = run.env("TMPDIR", path).start();
    while run.runs() && run.trace.net_namespaces() == 0 {
        run.trace.look();
    }
    run.signal(Signal::SIGKILL);
    run.wait();
    run.trace.assert_nothing_left();
    assert_eq!(entries(temporary.path()), [] as [&str; 0]);
}

fn where_nothing_can_be_executed_it_says_so() {
    needs_user_namespaces();
    // Whoever is not root cannot write to other folders either.
    let nobody = "setpriv --reuid 61235 --regid 61235 --clear-groups";
    let inside = format!("{nobody} prlimit --fsize=4096");
    let run = without_executable_memory(&inside, "probe -q");
    let ended = run.env("TMPDIR", "/nowhere").ends();
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(ended.out.contains("cannot put the toolbox where it can be executed"), "{}", ended.out);
}

/// The verdicts are told all the same; what is asked for and cannot be had is an error.
fn a_full_disk_is_told_and_the_other_report_is_written() {
    needs_user_namespaces();
    let (disk, other) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (disk, other) = (disk.path().to_str().unwrap(), other.path().to_str().unwrap());
    // Two pages: one for the old report, and one that the new one fills.
    let script = "mount -t tmpfs -o size=8k none \"$1\" || exit 77
        shift
        echo of yesterday >\"$DISK/report\"
        \"$0\" probe -q \"$@\"
        code=$?
        ls -A \"$DISK\"
        cat \"$DISK/report\"
        exit $code";
    let run = |junit: &str, json: &str| {
        let unshare = ["--user", "--map-root-user", "--mount", "sh", "-c", script, program(), disk];
        let marked = Marked::of("unshare").args(&unshare);
        marked.args(&["--junit", junit, "--json", json]).env("DISK", disk).ends()
    };
    let (full, fine) = (format!("{disk}/report"), format!("{other}/report"));
    for (junit, json) in [(&full, &fine), (&fine, &full)] {
        let ended = run(junit, json);
        if ended.status.code() == Some(77) || ended.err.starts_with("unshare:") {
            skip(&ended.err);
        }
        assert_eq!(ended.code(), 2, "{ended:?}");
        let why = format!("error: cannot write {full}: No space left on device (os error 28)\n");
        assert_eq!(ended.err, why);
        assert!(ended.out.contains("loopback-reach"), "{}", ended.out);
        // The old one stays, and nothing is beside it.
        assert!(ended.out.ends_with("\nreport\nof yesterday\n"), "{}", ended.out);
        assert!(Path::new(&fine).exists(), "the other one is there");
        std::fs::remove_file(&fine).expect("remove");
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        neither_home_nor_a_temporary_folder_is_needed,
        where_memory_cannot_be_executed_a_file_is_and_it_is_not_left,
        where_nothing_can_be_executed_it_says_so,
        a_full_disk_is_told_and_the_other_report_is_written,
    ]
}
