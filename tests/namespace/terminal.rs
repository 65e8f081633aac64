//! A person's terminal, handed to a command in the bottle.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::pty::{Winsize, openpty};
use nix::sys::termios::tcgetattr;

use crate::bottle::{launch, sh};

/// Says that [`the_person`] is meant, and that a bottle can be launched.
const ASKED: &str = "CLAUDE_BOTTLE_TEST_PERSON";

/// Not a test by itself: the process that the test below puts on a terminal, this test binary once more.
#[tokio::test]
#[ignore = "the other test runs it as a process of its own"]
async fn the_person() {
    if std::env::var_os(ASKED).is_none() {
        return;
    }
    let arena = launch().await.expect("a bottle");
    let script = "stty size; test -t 0 && test -t 1 && test -t 2 && echo at a terminal; \
                  read line; echo got $line; id -u; exit 7";
    let code = arena.bottle().exec_claude(sh(script)).await.expect("an exit code");
    arena.teardown().await.expect("gone");
    std::process::exit(code);
}

#[tokio::test]
async fn a_person_is_at_the_commands_terminal() {
    let Some(arena) = launch().await else { return };
    drop(arena);
    let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).unwrap();
    let before = tcgetattr(&pair.slave).unwrap();
    let theirs = || Stdio::from(pair.slave.try_clone().unwrap());
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "terminal::the_person", "--ignored", "--nocapture"])
        .env(ASKED, "1")
        .process_group(0)
        .stdin(theirs())
        .stdout(theirs())
        .stderr(theirs())
        .spawn()
        .unwrap();
    let mut ours = File::from(pair.master);
    let mut seen = String::new();
    let mut typed = false;
    while !seen.contains("1000") {
        let mut buffer = [0; 1024];
        let count = ours.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if seen.contains("at a terminal") && !typed {
            typed = true;
            ours.write_all(b"hello\r").unwrap();
        }
    }
    assert!(seen.contains("33 99\r\n"), "{seen}");
    assert!(seen.contains("got hello\r\n"), "{seen}");
    assert_eq!(process.wait().unwrap().code(), Some(7), "{seen}");
    assert_eq!(tcgetattr(&pair.slave).unwrap(), before, "the terminal is as it was");
}
