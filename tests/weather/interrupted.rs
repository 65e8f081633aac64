//! Ctrl-C and its kin: once cleans up and tells, twice ends at once.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};

use crate::run::{Marked, Run, Who, pid, verdicts};
use crate::screen;
use crate::trials::{needs_user_namespaces, trials};

/// How a run is interrupted half-way: the witness is stopped, so that the run cannot get on.
fn held_up(arguments: &[&str]) -> Run {
    let mut run = Marked::program(Who::Myself, arguments).start();
    let witness = run.witness();
    kill(witness, Signal::SIGSTOP).expect("stop the witness");
    run
}

fn an_interrupted_run_cleans_up_and_is_inconclusive() {
    needs_user_namespaces();
    let folder = tempfile::tempdir().expect("a folder");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (junit, json) = (folder.path().join("junit.xml"), folder.path().join("run.json"));
        let paths = [junit.to_str().unwrap(), json.to_str().unwrap()];
        let mut run = held_up(&["probe", "--junit", paths[0], "--json", paths[1]]);
        run.signal(signal);
        assert_eq!(run.wait().code(), Some(130), "{signal}");
        run.trace.assert_nothing_left();

        let said = rest(&mut run);
        assert!(said.contains("interrupted: cleaning up"), "{said}");
        let report = std::fs::read_to_string(&junit).expect("a report");
        let document = roxmltree::Document::parse(&report).expect("XML");
        let cases: Vec<_> = document.descendants().filter(|n| n.has_tag_name("testcase")).collect();
        assert!(!cases.is_empty());
        let unmet = |case: &roxmltree::Node<'_, '_>| {
            let skipped = case.children().find(|child| child.has_tag_name("skipped"));
            skipped
                .is_some_and(|it| it.attribute("message").unwrap_or_default().starts_with("needs "))
        };
        for case in cases.iter().filter(|case| !unmet(case)) {
            let error = case.children().find(|child| child.has_tag_name("error"));
            let error = error.unwrap_or_else(|| panic!("no error in {report}"));
            let message = error.attribute("message").unwrap_or_default();
            assert!(message.contains("interrupted"), "{message}");
        }
        assert_eq!(verdicts(&json), [], "nothing was found out");
        std::fs::remove_file(&junit).expect("remove");
    }
}

fn rest(run: &mut Run) -> String {
    let mut said = String::new();
    run.child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    said
}

fn the_progress_line_is_gone_after_an_interrupt() {
    needs_user_namespaces();
    let (ours, theirs) = screen::terminal();
    let mut marked = Marked::program(Who::Myself, &["probe"]).env("TERM", "xterm");
    marked.command.stderr(theirs).stdout(Stdio::null());
    // Its end of the terminal is closed here, once it runs.
    let mut run = marked.start();
    let witness = run.witness();
    kill(witness, Signal::SIGSTOP).expect("stop the witness");
    let reading = std::thread::spawn(move || screen::read_all(ours));
    run.signal(Signal::SIGINT);
    assert_eq!(run.wait().code(), Some(130));
    run.trace.assert_nothing_left();
    let written = reading.join().expect("a reader");
    assert_eq!(screen::seen(&written), ["interrupted: cleaning up (once more: at once)"]);
    assert!(String::from_utf8_lossy(&written).contains("launching a bottle"), "it was shown");
}

/// A run that keeps its bottle, and has said so.
fn kept(arguments: &[&str]) -> Run {
    let mut run = Marked::program(Who::Myself, arguments).start();
    let stderr = run.child.stderr.take().expect("piped");
    let mut lines = BufReader::new(stderr);
    let mut line = String::new();
    while line != "Ctrl-C tears it down\n" {
        line.clear();
        assert_ne!(lines.read_line(&mut line).expect("a line"), 0, "it keeps its bottle");
    }
    run.trace.look();
    // It may say more.
    run.child.stderr = Some(lines.into_inner());
    run
}

/// Ctrl-C is then how it is meant to end: no reason to throw the verdicts away.
fn a_kept_bottle_is_torn_down_and_the_verdicts_stand() {
    needs_user_namespaces();
    for _ in 0..6 {
        let mut run = kept(&["probe", "--keep", "smoke-echo", "bundle-reach"]);
        run.signal(Signal::SIGINT);
        assert_eq!(run.wait().code(), Some(0));
        run.trace.assert_nothing_left();
        let mut out = String::new();
        run.child.stdout.take().expect("piped").read_to_string(&mut out).expect("UTF-8");
        assert!(out.contains("bundle-reach"), "{out}");
        assert!(!rest(&mut run).contains("interrupted"));
    }
}

/// The lab's PID 1 is stopped and cannot hear that it is to end.
fn twice_ends_at_once() {
    needs_user_namespaces();
    let mut run = kept(&["probe", "--keep", "smoke-echo"]);
    let (_, inner) = run.trace.helper().expect("a helper");
    kill(pid(inner), Signal::SIGSTOP).expect("stop it");
    run.signal(Signal::SIGINT);
    // The second one counts once the first has been taken; until then the two may be one.
    let code = loop {
        match run.child.try_wait().expect("wait") {
            Some(status) => break status.code(),
            None => run.signal(Signal::SIGINT),
        }
        std::thread::yield_now();
    };
    assert_eq!(code, Some(130));
    run.trace.assert_nothing_left();
}

fn an_interrupt_ends_a_row_of_breaches() {
    needs_user_namespaces();
    let mut run = held_up(&["probe", "--breach", "all"]);
    run.signal(Signal::SIGINT);
    assert_eq!(run.wait().code(), Some(130));
    run.trace.assert_nothing_left();
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        an_interrupted_run_cleans_up_and_is_inconclusive,
        the_progress_line_is_gone_after_an_interrupt,
        a_kept_bottle_is_torn_down_and_the_verdicts_stand,
        twice_ends_at_once,
        an_interrupt_ends_a_row_of_breaches,
    ]
}
