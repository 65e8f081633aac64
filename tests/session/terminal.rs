//! Terminals: the command's own, and the person's.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitStatus;

use claude_bottle::bottle::{Bottle, Command, End};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use pty_process::{OwnedReadPty, OwnedWritePty, Pty, Size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use crate::bottle::{Open, read_until, runs, sh, soon, until};

#[tokio::test]
async fn a_command_has_a_terminal_of_the_given_size() {
    let bottle = Open::new().await;
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size && echo aside >&2; \
                  stty -a | grep -o iutf8; exit 4";
    let output = soon(bottle.exec(sh(script).terminal(30, 100))).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "30 100\r\naside\r\niutf8\r\n");
    assert_eq!((output.stderr, output.end), (Vec::new(), End::Code(4)));
    // It is the controlling one, of a session of its own.
    let output = soon(bottle.exec(sh("echo tty > /dev/tty").terminal(1, 1))).await.unwrap();
    assert_eq!(output.stdout, b"tty\r\n");
    let output = bottle.sh("for fd in 0 1 2; do test -t $fd && echo $fd; done").await;
    assert_eq!(output.stdout, b"", "none without being asked");
}

#[tokio::test]
async fn a_terminal_ends_what_reads_lines_and_takes_a_new_size() {
    let bottle = Open::new().await;
    let command = Command::new("cat").stdin("typed\n").terminal(24, 80);
    let output = soon(bottle.exec(command)).await.unwrap();
    // Once as it was typed, once as it was written.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "typed\r\ntyped\r\n");
    assert_eq!(output.end, End::Code(0));

    let script = "trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut running = bottle.start(sh(script).terminal(24, 80)).await.unwrap();
    read_until(&mut running, "ready").await;
    running.remote().resize(41, 111);
    read_until(&mut running, "41 111").await;
    assert_eq!(soon(running.output()).await.unwrap().end, End::Code(6));
}

#[tokio::test]
async fn keys_are_bytes_and_signals_reach_the_foreground() {
    let bottle = Open::new().await;
    let start = |script: &str| bottle.start(sh(script).terminal(24, 80).stream_stdin());
    let mut running =
        start("trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done")
            .await
            .unwrap();
    let mut stdin = running.take_stdin().unwrap();
    read_until(&mut running, "ready").await;
    stdin.write(b"\x03").await.unwrap();
    read_until(&mut running, "interrupted").await;
    assert_eq!(soon(running.output()).await.unwrap().end, End::Code(5));

    // A shell with job control gives each job a process group.
    let mut running = start("set -m; sh -c 'echo $$; exec sleep 1000'; echo woken").await.unwrap();
    let pid = read_until(&mut running, "\n").await;
    running.signal(15);
    until("the job in the foreground is gone", || !runs(&pid)).await;
}

/// What [`the_person`] is to run, as a shell script.
const SCRIPT: &str = "CLAUDE_BOTTLE_TEST_SCRIPT";
/// Its exit code when `exec_claude` fails.
const FAILED: i32 = 99;
/// What it says at a terminal after a successful command, before it reads a line by itself.
const OVER: &str = "the command is over";

/// Not a test by itself: the process that the tests below put on a terminal, this test binary once more.
#[tokio::test]
#[ignore = "the other tests run it as a process of its own"]
async fn the_person() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    let bottle = Open::new().await;
    let code = bottle.exec_claude(sh(&script)).await.unwrap_or_else(|error| {
        eprintln!("{error}");
        FAILED
    });
    if io::stdin().is_terminal() && code == 0 {
        let mut line = String::new();
        println!("{OVER}");
        io::stdin().read_line(&mut line).unwrap();
        println!("then: {line}");
    }
    std::process::exit(code);
}

fn the_person_runs(script: &str) -> Vec<(&'static str, String)> {
    vec![(SCRIPT, script.to_owned()), ("TERM", "strange-terminal".to_owned())]
}

const ARGUMENTS: [&str; 4] = ["--exact", "terminal::the_person", "--ignored", "--nocapture"];

/// A person at a terminal, who has started a command in a bottle.
struct Person {
    keyboard: OwnedWritePty,
    screen: OwnedReadPty,
    terminal: std::os::fd::OwnedFd,
    /// Its settings before anybody has used it.
    before: Termios,
    process: Child,
}

impl Person {
    fn start(script: &str) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(33, 99)).unwrap();
        let terminal = pty.as_fd().try_clone_to_owned().unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let command = pty_process::Command::new(std::env::current_exe().unwrap());
        let command = command.args(ARGUMENTS).envs(the_person_runs(script)).kill_on_drop(true);
        let process = command.spawn(pts).unwrap();
        let (screen, keyboard) = Pty::into_split(pty);
        Self { keyboard, screen, terminal, before, process }
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    fn is_raw(&self) -> bool {
        !self
            .settings()
            .local_flags
            .intersects(LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::ECHO)
    }

    fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.process.id().unwrap().cast_signed())
    }

    async fn sees(&mut self, wanted: &str) -> String {
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let read = soon(self.screen.read(&mut buffer)).await;
            // EIO: everyone has closed it.
            let count = read.unwrap_or(0);
            let so_far = String::from_utf8_lossy(&seen).into_owned();
            assert_ne!(count, 0, "the end after {so_far:?}, before {wanted:?}");
            seen.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(seen).unwrap()
    }

    async fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).await.unwrap();
    }

    async fn ends(&mut self) -> ExitStatus {
        soon(self.process.wait()).await.unwrap()
    }
}

#[tokio::test]
async fn the_person_is_at_the_commands_terminal() {
    let script = "test -t 0 && test -t 2 && stty size; echo $TERM; \
                  trap 'stty size' WINCH; trap 'exit 7' INT; read line; echo got $line; \
                  while :; do sleep 0.05; done";
    let mut person = Person::start(script);
    let seen = person.sees("strange-terminal").await;
    assert!(seen.contains("33 99"), "{seen}");
    assert!(person.is_raw(), "the command's terminal does what a terminal does");
    person.types("hello\r").await;
    // Echoed once, by the command's terminal.
    let seen = person.sees("got hello").await;
    assert_eq!(seen.matches("hello").count(), 2, "{seen}");

    person.keyboard.resize(Size::new(44, 111)).unwrap();
    person.sees("44 111").await;
    person.types("\x03").await;
    assert_eq!(person.ends().await.code(), Some(7));
    assert_eq!(person.settings(), person.before, "the terminal is as it was");
}

#[tokio::test]
async fn control_c_goes_to_the_command_not_to_the_launcher() {
    let script = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done";
    let mut person = Person::start(script);
    person.sees("ready").await;
    person.types("\x03").await;
    person.sees("interrupted").await;
    assert_eq!(person.ends().await.code(), Some(5));
    assert!(!person.is_raw());
}

#[tokio::test]
async fn a_signal_that_kills_the_command_becomes_its_exit_code() {
    let mut person = Person::start("echo ready; kill -9 $$");
    person.sees("ready").await;
    assert_eq!(person.ends().await.code(), Some(128 + 9));
    assert!(!person.is_raw());
}

#[tokio::test]
async fn to_terminate_the_launcher_hangs_the_command_up_and_then_kills_it() {
    use nix::sys::signal::{Signal, kill};
    let script = "trap 'echo hung up; exit 8' HUP; echo ready; while :; do sleep 0.05; done";
    let mut person = Person::start(script);
    person.sees("ready").await;
    kill(person.pid(), Signal::SIGTERM).unwrap();
    person.sees("hung up").await;
    assert_eq!(person.ends().await.code(), Some(8));
    assert!(!person.is_raw());

    let script = "trap 'echo not yet' HUP; echo ready; while :; do sleep 0.05; done";
    let mut person = Person::start(script);
    person.sees("ready").await;
    kill(person.pid(), Signal::SIGHUP).unwrap();
    person.sees("not yet").await;
    kill(person.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(person.ends().await.code(), Some(128 + 9));
    assert!(!person.is_raw());
}

#[tokio::test]
async fn a_launcher_that_fails_leaves_the_terminal_as_it_was() {
    // The session is killed from inside: nobody says goodbye.
    let mut person = Person::start("echo ready; read x; kill -9 $PPID; exec sleep 1000");
    person.sees("ready").await;
    assert!(person.is_raw());
    person.types("\r").await;
    person.sees("session ended").await;
    assert_eq!(person.ends().await.code(), Some(FAILED));
    assert!(!person.is_raw());
}

#[tokio::test]
async fn keys_typed_after_the_end_are_left_for_whoever_comes_next() {
    let mut person = Person::start("echo ready; read x; exit 0");
    person.sees("ready").await;
    person.types("\r").await;
    person.sees(OVER).await;
    person.types("next\n").await;
    person.sees("then: next").await;
    assert_eq!(person.ends().await.code(), Some(0));
}

/// Runs [`the_person`] on pipes.
async fn piped(script: &str, stdin: &[u8]) -> std::process::Output {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(ARGUMENTS).envs(the_person_runs(script)).kill_on_drop(true);
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let feed = async move {
        // It may not read all of it.
        let _: io::Result<()> = input.write_all(stdin).await;
    };
    let ((), output) = soon(async { tokio::join!(feed, child.wait_with_output()) }).await;
    output.unwrap()
}

#[tokio::test]
async fn without_a_terminal_the_streams_are_pipes() {
    let bytes = vec![b'\n'; 3 * 1024 * 1024];
    let script = "test -t 0 || test -t 1 || test -t 2 || echo pipes; echo aside >&2; wc -l; exit 9";
    let output = piped(script, &bytes).await;
    let stdout = String::from_utf8_lossy(&output.stdout);
    // After what the test harness has to say.
    assert!(stdout.ends_with(&format!("pipes\n{}\n", bytes.len())), "{stdout}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "aside\n");
    assert_eq!(output.status.code(), Some(9));
}

#[tokio::test]
async fn a_reader_who_goes_away_ends_the_command_like_any_pipe() {
    use std::process::Stdio;
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(ARGUMENTS).envs(the_person_runs("yes")).kill_on_drop(true);
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut some = [0; 4096];
    soon(stdout.read_exact(&mut some)).await.unwrap();
    drop(stdout);
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(128 + 13));
}
