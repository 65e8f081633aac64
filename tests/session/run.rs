//! What commands are given, and what comes back.

use std::io::Write;
use std::time::Duration;

use claude_bottle::bottle::session::Session;
use claude_bottle::bottle::{Bottle, Command, End, Event};

use crate::bottle::{
    Open, PATIENCE, TOOLBOX, read_until, runs, session_command, sh, soon, until, write_program,
};

#[tokio::test]
async fn both_streams_and_the_exit_code_come_back() {
    let bottle = Open::new().await;
    let output = bottle.sh("echo out; echo err >&2; exit 7").await;
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(output.end, End::Code(7));
    assert_eq!((output.stdout_cut, output.stderr_cut), (0, 0));
    assert_eq!(bottle.toolbox(), TOOLBOX.to_str().unwrap());
    bottle.teardown().await.unwrap();
}

#[tokio::test]
async fn the_toolbox_runs_by_the_path_that_the_session_tells() {
    let bottle = Open::new().await;
    let say = Command::new(bottle.toolbox()).args(["say", "one", "two", "3"]);
    let output = soon(bottle.exec(say)).await.unwrap();
    assert_eq!((output.stdout, output.stderr), (b"one\n".into(), b"two\n".into()));
    assert_eq!(output.end, End::Code(3));

    let mut named = session_command();
    named.args(["--toolbox", "/inside/toolbox"]);
    assert_eq!(Open::of(named).await.toolbox(), "/inside/toolbox");
}

#[tokio::test]
async fn one_socket_carries_both_directions() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    // Non-blocking at the other end too, as it may come from somebody else's event loop.
    theirs.set_nonblocking(true).unwrap();
    let theirs = std::os::fd::OwnedFd::from(theirs);
    let mut command = session_command();
    let mut child = command.stdin(theirs.try_clone().unwrap()).stdout(theirs).spawn().unwrap();
    drop(command);
    ours.set_nonblocking(true).unwrap();
    let (reader, writer) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
    let session = Session::open(reader, writer, PATIENCE).await.unwrap();
    let running = session.start(sh("head -c 3M /dev/zero; cat").stdin("x")).unwrap();
    let output = soon(running.output()).await.unwrap();
    assert_eq!((output.stdout.len(), output.end), (3 * 1024 * 1024 + 1, End::Code(0)));
    assert!(session.close(PATIENCE).await, "it ends by itself");
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn variables_are_added_and_the_folder_is_entered() {
    let mut command = session_command();
    command.env("OWN", "bottle's").env("BOTH", "bottle's");
    let bottle = Open::of(command).await;
    let command = sh("echo $OWN $BOTH $NEW; pwd").env("BOTH", "mine").env("NEW", "a\nb=c").cwd("/");
    let output = soon(bottle.exec(command)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "bottle's mine a b=c\n/\n");
}

#[tokio::test]
async fn programs_are_looked_up_on_the_path_that_the_command_has() {
    let folder = tempfile::tempdir().unwrap();
    write_program(&folder.path().join("only-here"), b"#!/bin/sh\necho found\n");
    let bottle = Open::new().await;
    let command = Command::new("only-here").env("PATH", folder.path().to_str().unwrap());
    assert_eq!(soon(bottle.exec(command)).await.unwrap().stdout, b"found\n");
}

#[tokio::test]
async fn a_command_that_cannot_be_started_says_why() {
    let bottle = Open::new().await;
    let cases = [
        (Command::new("/no/such"), nix::libc::ENOENT, "exec /no/such"),
        (Command::new("no-such-program"), nix::libc::ENOENT, "exec no-such-program"),
        (Command::new("/etc/passwd"), nix::libc::EACCES, "exec /etc/passwd"),
        (Command::new("true").cwd("/no/folder"), nix::libc::ENOENT, "enter /no/folder"),
        (Command::new("true").cwd("/etc/passwd"), nix::libc::ENOTDIR, "exec true"),
        (Command::new("a\0b"), nix::libc::EINVAL, "a command with a NUL in it"),
        (
            Command::new("true").env("A=B", "c"),
            nix::libc::EINVAL,
            "a variable without a proper name",
        ),
        (Command::new("true").env("", "c"), nix::libc::EINVAL, "a variable without a proper name"),
    ];
    for (command, expected, expected_what) in cases {
        // Folders that may not be searched would make it another errno.
        let command = command.env("PATH", "/usr/bin:/bin");
        match soon(bottle.exec(command)).await.unwrap().end {
            End::NotStarted { errno, what } => {
                assert_eq!((errno, what.as_str()), (expected, expected_what));
            }
            other => panic!("{other} instead of {expected_what}"),
        }
    }
    assert_eq!(bottle.sh("echo still there").await.stdout, b"still there\n");
}

#[tokio::test]
async fn a_signal_that_kills_a_command_is_told_even_a_real_time_one() {
    let bottle = Open::new().await;
    for signal in [9, 15, 34, 64] {
        let output = bottle.sh(&format!("kill -{signal} $$; sleep 1000")).await;
        assert_eq!(output.end, End::Signal(signal));
    }
}

/// As below `nohup`, or behind a shell's `&`.
#[tokio::test]
async fn a_signal_that_the_session_is_to_ignore_is_one_to_the_commands() {
    let mut ignoring = tokio::process::Command::new("sh");
    let script = "trap '' INT QUIT HUP TERM CHLD; exec \"$0\" session";
    ignoring.args(["-c", script]).arg(&*TOOLBOX).env("LC_ALL", "C");
    let bottle = Open::of(ignoring).await;
    for (name, number) in [("INT", 2), ("QUIT", 3), ("HUP", 1), ("TERM", 15)] {
        let output = bottle.sh(&format!("ulimit -c 0; kill -{name} $$; echo alive")).await;
        assert_eq!(output.end, End::Signal(number), "{name}");
    }
    bottle.teardown().await.unwrap();
}

#[tokio::test]
async fn signals_go_to_the_whole_process_group() {
    let bottle = Open::new().await;
    let mut running = bottle.start(sh("sleep 1000 & echo $!; wait")).await.unwrap();
    let child = read_until(&mut running, "\n").await;
    running.signal(15);
    assert_eq!(soon(running.output()).await.unwrap().end, End::Signal(15));
    until("the group is gone", || !runs(&child)).await;
}

#[tokio::test]
async fn a_hundred_commands_run_at_the_same_time() {
    let bottle = Open::new().await;
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let made = std::process::Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());
    let mut running = Vec::new();
    for number in 0..100 {
        // Each says that it is there, and waits for the gate, which opens when all are.
        let script = format!("echo {number}; read x < {}; exit {number}", gate.display());
        running.push(bottle.start(sh(&script)).await.unwrap());
    }
    for (number, running) in running.iter_mut().enumerate() {
        assert_eq!(read_until(running, "\n").await, format!("{number}\n"));
    }
    // One line for each, and open until all have theirs.
    let mut gate = std::fs::OpenOptions::new().read(true).write(true).open(gate).unwrap();
    gate.write_all(&[b'\n'; 100]).unwrap();
    for (number, running) in running.into_iter().enumerate() {
        let code = i32::try_from(number).unwrap();
        assert_eq!(soon(running.output()).await.unwrap().end, End::Code(code));
    }
}

#[tokio::test]
async fn whatever_bytes_a_command_writes_are_never_taken_for_the_protocol() {
    use claude_bottle_protocol::session::{Kind, frame};
    let mut bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for kind in (0..=255).filter_map(Kind::from_byte) {
        bytes.extend(frame(kind, 1, b"{\"end\":{\"code\":0},\"stdout_cut\":0,\"stderr_cut\":0}"));
    }
    bytes.extend([0; 1000]);
    let bottle = Open::new().await;
    let command = sh("tee /dev/stderr").stdin(bytes.clone());
    let output = soon(bottle.exec(command)).await.unwrap();
    assert_eq!(output.end, End::Code(0));
    assert!(output.stdout == bytes && output.stderr == bytes);
}

#[tokio::test]
async fn a_time_out_kills_and_keeps_what_was_written() {
    let bottle = Open::new().await;
    let command = sh("trap '' TERM; echo before; sleep 1000").timeout(Duration::from_millis(300));
    let output = soon(bottle.exec(command)).await.unwrap();
    assert_eq!(output.end, End::TimedOut);
    assert_eq!(output.stdout, b"before\n");
}

#[tokio::test]
async fn the_end_is_not_held_back_by_whoever_keeps_a_stream_open() {
    let bottle = Open::new().await;
    let (silent, talkative, flooding) = tokio::join!(
        bottle.sh("sleep 1000 & echo mine; exit 3"),
        bottle.sh("(while :; do echo theirs; sleep 0.05; done) & echo mine; exit 4"),
        bottle.sh("yes & echo mine; exit 5"),
    );
    for (output, code) in [(silent, 3), (talkative, 4), (flooding, 5)] {
        assert_eq!(output.end, End::Code(code));
        assert!(String::from_utf8_lossy(&output.stdout).contains("mine\n"));
    }
    bottle.teardown().await.unwrap();
}

#[tokio::test]
async fn a_command_starts_with_nothing_of_the_session() {
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "exec 9</dev/null; exec \"$0\" session"]).arg(&*TOOLBOX);
    let bottle = Open::of(command).await;
    let script = "[ -e /proc/$$/fd/9 ] && echo a descriptor; grep SigBlk /proc/self/status; \
                  kill -s PIPE $$; echo SIGPIPE is ignored";
    let output = bottle.sh(script).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "SigBlk:\t0000000000000000\n");
    assert_eq!(output.end, End::Signal(13));
}

#[tokio::test]
async fn commands_can_neither_trace_the_session_nor_read_its_memory_or_descriptors() {
    // Root may do all of that; then somebody else takes the place of the agent.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let toolbox = folder.path().join("toolbox");
    write_program(&toolbox, &std::fs::read(&*TOOLBOX).unwrap());
    let mut command = tokio::process::Command::new(&toolbox);
    command.arg("session");
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        command.uid(65534).gid(65534);
    }
    let bottle = Open::of(command).await;
    let files = ["mem", "environ", "fd/0", "fd/1"];
    let script: String = files.map(|file| format!("( : < /proc/$PPID/{file} ) 2>&1; ")).concat();
    let output = bottle.sh(&script).await;
    let text = String::from_utf8_lossy(&output.stdout);
    let denied = text.lines().filter(|line| line.contains("ermission denied")).count();
    assert_eq!((denied, text.lines().count()), (files.len(), files.len()), "{text}");
}

#[tokio::test]
async fn orphans_are_reaped_and_those_that_ran_away_end_with_the_session() {
    let bottle = Open::new().await;
    // In a session of its own, its streams elsewhere: nothing ties it to the command.
    let away = bottle.sh("setsid sleep 1000 >/dev/null 2>&1 & echo $!").await;
    let away = String::from_utf8_lossy(&away.stdout).into_owned();
    assert!(runs(&away), "a process may outlive its command");
    let short = bottle.sh("sh -c 'sleep 0.05 & echo $!' ").await;
    let short = String::from_utf8_lossy(&short.stdout).trim().to_owned();
    until("the orphan is reaped", || !std::path::Path::new(&format!("/proc/{short}")).exists())
        .await;
    bottle.teardown().await.unwrap();
    assert!(!runs(&away));
}

#[tokio::test]
async fn a_dropped_command_is_killed() {
    let bottle = Open::new().await;
    let mut running = bottle.start(sh("echo $$; exec sleep 1000")).await.unwrap();
    let pid = read_until(&mut running, "\n").await;
    drop(running);
    until("it is killed", || !runs(&pid)).await;
    // The channel is free again, and the session sound.
    assert_eq!(bottle.sh("echo next").await.stdout, b"next\n");
}

#[tokio::test]
async fn output_comes_by_lines_and_a_line_has_a_bound() {
    let bottle = Open::new().await;
    let script = "printf 'one\\n\\nthree\\0\\r\\n'; echo aside >&2; printf last; exit 2";
    let mut lines = bottle.start(sh(script)).await.unwrap().lines();
    let mut seen = Vec::new();
    while let Some(line) = soon(lines.next()).await.unwrap() {
        seen.push(String::from_utf8(line).unwrap());
    }
    assert_eq!(seen, ["one", "", "three\0\r", "last"]);
    assert_eq!(lines.ended().unwrap().end, End::Code(2));
    assert_eq!(lines.stderr(), b"aside\n");
    assert_eq!(soon(lines.next()).await.unwrap(), None, "again");

    for (length, fits) in [(65_536, true), (65_537, false)] {
        let script = format!("echo first; head -c {length} /dev/zero; echo; sleep 1000");
        let mut lines = bottle.start(sh(&script)).await.unwrap().lines();
        assert_eq!(soon(lines.next()).await.unwrap().unwrap(), b"first");
        let line = soon(lines.next()).await;
        assert_eq!(line.is_ok(), fits, "{length}");
        if let Ok(line) = line {
            assert_eq!(line.unwrap().len(), length);
        }
    }
}

#[tokio::test]
async fn the_end_of_a_command_can_be_asked_for_again() {
    let bottle = Open::new().await;
    let mut running = bottle.start(Command::new("true")).await.unwrap();
    let end = soon(running.next()).await.unwrap();
    assert!(matches!(&end, Event::Ended(ended) if ended.end.is_success()));
    assert_eq!(soon(running.next()).await.unwrap(), end);
}
