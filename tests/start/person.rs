//! A person's terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use nix::sys::termios::tcgetattr;

use crate::build::Build;
use crate::project::{Project, can_start};

#[test]
fn the_terminal_is_the_commands() {
    if !can_start() {
        return;
    }
    let project = Project::new(&Build::new());
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
