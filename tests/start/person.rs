//! A person's terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcgetattr;
use nix::unistd::Pid;

use crate::build::Build;
use crate::project::{On, Project, on_each_backend};

fn the_terminal_is_the_commands(on: On) {
    let project = Project::on(on, &Build::new());
    let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).unwrap();
    let before = tcgetattr(&pair.slave).unwrap();
    let theirs = || Stdio::from(pair.slave.try_clone().unwrap());
    let script =
        "trap 'echo interrupted; exit 7' INT; stty size; echo waiting; while :; do sleep 0.1; done";
    let mut start = project.start(&["--offline", "--", "sh", "-c", script]);
    let mut child = start.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().unwrap();
    let mut ours = File::from(pair.master);
    let (mut seen, mut typed) = (String::new(), false);
    while !seen.contains("interrupted") {
        let mut buffer = [0; 1024];
        let count = ours.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if seen.contains("waiting") && !typed {
            typed = true;
            ours.write_all(b"\x03").unwrap();
        }
    }
    assert!(seen.contains("33 99\r\n"), "{seen}");
    assert_eq!(child.wait().unwrap().code(), Some(7), "{seen}");
    assert_eq!(tcgetattr(&pair.slave).unwrap(), before, "the terminal is as it was");
}

/// What the terminal shows until `until` is in it.
fn seen(ours: &mut File, until: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(until) {
        let mut buffer = [0; 1024];
        let count = ours.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

fn the_terminals_size_is_followed_and_a_hang_up_ends_the_command(on: On) {
    let project = Project::on(on, &Build::new());
    let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).unwrap();
    let before = tcgetattr(&pair.slave).unwrap();
    let theirs = || Stdio::from(pair.slave.try_clone().unwrap());
    let script = "trap 'stty size' WINCH; trap 'echo hung up; exit 9' HUP; echo waiting; \
                  while :; do sleep 0.1; done";
    let mut start = project.start(&["--offline", "--", "sh", "-c", script]);
    let mut child = start.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().unwrap();
    let mut ours = File::from(pair.master);
    seen(&mut ours, "waiting");
    let launcher = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let resized =
        Command::new("stty").args(["rows", "44", "cols", "111"]).stdin(theirs()).status().unwrap();
    assert!(resized.success());
    // It has no controlling terminal here, whose kernel would say so.
    kill(launcher, Signal::SIGWINCH).unwrap();
    seen(&mut ours, "44 111\r\n");
    kill(launcher, Signal::SIGHUP).unwrap();
    // A command's last words are its own.
    seen(&mut ours, "hung up\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(tcgetattr(&pair.slave).unwrap(), before, "the terminal is as it was");
}

pub(crate) fn trials() -> Vec<Trial> {
    on_each_backend![
        the_terminal_is_the_commands,
        the_terminals_size_is_followed_and_a_hang_up_ends_the_command,
    ]
    .into()
}
