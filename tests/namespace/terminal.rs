//! A person's terminal, handed to a command in the bottle.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use nix::pty::{Winsize, openpty};
use nix::sys::termios::tcgetattr;

use crate::bottle::{launch, sh};
use crate::trials::trials;

/// Says that this process is to be [`the_person`].
pub(crate) const ASKED: &str = "CLAUDE_BOTTLE_TEST_PERSON";

/// The process that the test below puts on a terminal, this test binary once more.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn the_person() -> ! {
    let arena = launch().await;
    let script = "stty size; test -t 0 && test -t 1 && test -t 2 && echo at a terminal; \
                  read line; echo got $line; id -u; exit 7";
    let code = arena.bottle().exec_claude(sh(script)).await.expect("an exit code");
    arena.teardown().await.expect("gone");
    std::process::exit(code);
}

#[tokio::main(flavor = "current_thread")]
async fn a_person_is_at_the_commands_terminal() {
    let arena = launch().await;
    drop(arena);
    let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).unwrap();
    let before = tcgetattr(&pair.slave).unwrap();
    let theirs = || Stdio::from(pair.slave.try_clone().unwrap());
    let mut process = Command::new(std::env::current_exe().unwrap())
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

pub(crate) fn trials() -> Vec<Trial> {
    trials![a_person_is_at_the_commands_terminal,]
}
