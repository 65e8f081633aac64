//! Whoever is at the other end misbehaves.

use std::process::Stdio;
use std::time::Duration;

use claude_bottle::bottle::session::Session;
use claude_bottle::bottle::{Bottle, BottleError, Command, Event};
use claude_bottle_protocol::VERSION;
use claude_bottle_protocol::session::{End, Ended, HEADER, Hello, Kind, Start, WINDOW, frame};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::bottle::{Open, PATIENCE, read_until, runs, session_command, sh, soon};

/// A session whose other end is the test.
async fn fake() -> (Session, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(1024 * 1024);
    let hello = Hello { version: VERSION.to_owned(), toolbox: "/toolbox".to_owned() };
    let hello = serde_json::to_vec(&hello).unwrap();
    theirs.write_all(&frame(Kind::Hello, 0, &hello)).await.unwrap();
    let (reader, writer) = tokio::io::split(ours);
    (Session::open(reader, writer, PATIENCE).await.unwrap(), theirs)
}

/// What [`Session::open`] says to this, and then the end.
async fn greeted_with(bytes: &[u8]) -> String {
    let bytes = std::io::Cursor::new(bytes.to_vec());
    let error = Session::open(bytes, tokio::io::sink(), PATIENCE).await.unwrap_err();
    error.to_string()
}

fn hello(version: &str, more: &str) -> Vec<u8> {
    let json = format!(r#"{{"version":"{version}","toolbox":"/t"{more}}}"#);
    frame(Kind::Hello, 0, json.as_bytes())
}

#[tokio::test]
async fn what_is_no_session_is_quoted() {
    insta::assert_snapshot!(
        greeted_with(b"OCI runtime exec failed: exec: \"toolbox\": not found\r\n").await,
        @r#"what answers from the bottle is no session, it says: OCI runtime exec failed: exec: "toolbox": not found"#
    );
    insta::assert_snapshot!(
        greeted_with(b"").await,
        @"what answers from the bottle is no session, it says: (nothing)"
    );
    insta::assert_snapshot!(
        greeted_with(b"sh: \x1b[1m").await,
        @r"what answers from the bottle is no session, it says: sh: \u{1b}[1m"
    );
    let flood = greeted_with(&vec![b'x'; 1_000_000]).await;
    assert!(flood.len() < 2000, "{} bytes", flood.len());
    for strange in
        [frame(Kind::Stdout, 0, b"x"), frame(Kind::Hello, 1, b"x"), frame(Kind::Hello, 0, b"x")]
    {
        assert!(greeted_with(&strange).await.contains("no session"));
    }
    let half = hello(VERSION, "");
    assert!(greeted_with(&half[..half.len() - 1]).await.contains("no session"));
}

#[tokio::test]
async fn another_version_is_refused_whatever_else_it_says() {
    for more in ["", r#","speaks":"more""#] {
        let error = greeted_with(&hello(r"0.0.0\u0007", more)).await;
        let theirs = r"0.0.0\u{7}";
        assert_eq!(
            error,
            format!("the toolbox in the bottle has version {theirs}, this is {VERSION}")
        );
    }
    assert!(greeted_with(&hello(VERSION, r#","speaks":"more""#)).await.contains("no session"));
}

#[tokio::test]
async fn silence_has_an_end() {
    let (reader, _kept) = tokio::io::duplex(64);
    let patience = Duration::from_millis(20);
    let error = Session::open(reader, tokio::io::sink(), patience).await.unwrap_err();
    assert_eq!(error.to_string(), "the bottle's session said nothing for 20ms");
}

#[tokio::test]
async fn a_session_that_is_killed_ends_every_command() {
    let mut bottle = Open::new().await;
    let mut running = bottle.start(sh("echo $$; exec sleep 1000").stream_stdin()).await.unwrap();
    let pid = read_until(&mut running, "\n").await;
    let mut stdin = running.take_stdin().unwrap();
    let other = bottle.start(sh("sleep 1000")).await.unwrap();
    let writing = tokio::spawn(async move { stdin.write(&vec![0; 10 * 1024 * 1024]).await });
    bottle.child.kill().await.unwrap();
    for error in [
        soon(running.next()).await.unwrap_err(),
        soon(other.output()).await.unwrap_err(),
        soon(writing).await.unwrap().unwrap_err(),
        bottle.start(sh("true")).await.unwrap_err(),
    ] {
        assert!(matches!(error, BottleError::SessionEnded { .. }), "{error}");
    }
    crate::bottle::until("the command ends with its session", || !runs(&pid)).await;
}

#[tokio::test]
async fn to_drop_the_session_ends_it_and_its_commands() {
    let Open { session, mut child } = Open::new().await;
    let mut running = session.start(sh("echo $$; exec sleep 1000")).unwrap();
    let pid = read_until(&mut running, "\n").await;
    drop(session);
    let error = soon(running.next()).await.unwrap_err();
    assert_eq!(error.to_string(), "session ended: the launcher has closed it");
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
    assert!(!runs(&pid));
}

#[tokio::test]
async fn a_session_that_breaks_the_rules_is_ended_with_the_reason() {
    let ended = Ended { end: End::Code(0), stdout_cut: 0, stderr_cut: 0 };
    let ended = serde_json::to_vec(&ended).unwrap();
    let too_much = frame(Kind::Stdout, 1, &vec![0; 64 * 1024]).repeat(WINDOW / (64 * 1024) + 1);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"Segmentation fault".to_vec(), "it sends something else than frames"),
        (frame(Kind::Stdout, 7, b"x"), "it speaks of a command that does not run"),
        (frame(Kind::Ended, 7, &ended), "it speaks of a command that does not run"),
        (frame(Kind::Ended, 1, b"{}"), "its word on a command's end cannot be read"),
        (frame(Kind::Stdout, 1, b""), "it sends empty output"),
        (frame(Kind::Taken, 1, b"123"), "its count is not four bytes"),
        (frame(Kind::Start, 1, b"{}"), "it sends what only a launcher sends"),
        (too_much, "it sends more output than it may"),
    ];
    for (bytes, why) in cases {
        let (session, mut theirs) = fake().await;
        let mut running = session.start(Command::new("x")).unwrap();
        theirs.write_all(&bytes).await.unwrap();
        // What came before is still handed over.
        let error = loop {
            match soon(running.next()).await {
                Ok(Event::Stdout(_)) => {}
                Ok(other) => panic!("{other:?} for {why}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), format!("session ended: {why}"));
        assert_eq!(soon(session.ended()).await, why);
    }
}

#[tokio::test]
async fn acknowledgements_of_what_was_never_sent_do_no_harm() {
    let (session, mut theirs) = fake().await;
    let mut running = session.start(Command::new("x").stream_stdin()).unwrap();
    for _ in 0..3 {
        theirs.write_all(&frame(Kind::Taken, 1, &u32::MAX.to_le_bytes())).await.unwrap();
    }
    theirs.write_all(&frame(Kind::Stdout, 1, b"x")).await.unwrap();
    read_until(&mut running, "x").await;
    let mut stdin = running.take_stdin().unwrap();
    let bytes = vec![0; 2 * WINDOW];
    let mut writing = std::pin::pin!(stdin.write(&bytes));
    // The other end gets the window and not a byte more.
    let mut arrived = 0;
    while arrived < WINDOW {
        let mut header = [0; HEADER];
        let read = async {
            theirs.read_exact(&mut header).await.unwrap();
            let header = claude_bottle_protocol::session::Header::decode(header).unwrap();
            let mut payload = vec![0; header.length];
            theirs.read_exact(&mut payload).await.unwrap();
            if header.kind == Kind::Stdin { header.length } else { 0 }
        };
        tokio::select! {
            written = &mut writing => panic!("{written:?} with half of it on its way"),
            count = soon(read) => arrived += count,
        }
    }
    assert_eq!(arrived, WINDOW);
}

#[tokio::test]
async fn a_session_that_hears_nothing_is_not_written_to_for_ever() {
    let (session, theirs) = fake().await;
    let mut running = session.start(Command::new("x").stream_stdin()).unwrap();
    let mut stdin = running.take_stdin().unwrap();
    drop(theirs);
    let error = soon(running.next()).await.unwrap_err();
    assert!(matches!(error, BottleError::SessionEnded { .. }), "{error}");
    let error = soon(stdin.write(b"x")).await.unwrap_err();
    assert!(matches!(error, BottleError::SessionEnded { .. }), "{error}");
}

#[tokio::test]
async fn a_command_longer_than_a_frame_is_refused_before_it_is_sent() {
    let bottle = Open::new().await;
    let error = bottle.start(Command::new("echo").arg("x".repeat(70_000))).await.unwrap_err();
    assert!(matches!(error, BottleError::TooLong { bytes: 70_000.., most: 65_536 }), "{error}");
    assert_eq!(bottle.sh("echo sound").await.stdout, b"sound\n");
}

/// Gives the real session these bytes, then the end; returns its exit code and what it said to standard error.
async fn feed(bytes: &[u8]) -> (Option<i32>, String) {
    let mut command = session_command();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = async move {
        // It may end before it has read all of it.
        let _ = stdin.write_all(bytes).await;
    };
    let ((), output) = soon(async { tokio::join!(feeding, child.wait_with_output()) }).await;
    let output = output.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn the_session_ends_on_what_is_not_the_protocol_and_says_so() {
    let start = |argv: &[&str]| {
        let argv = argv.iter().map(ToString::to_string).collect();
        let (env, cwd, terminal) = ([].into(), None, None);
        let start = Start { argv, env, cwd, output_limit: 10, terminal };
        frame(Kind::Start, 1, &serde_json::to_vec(&start).unwrap())
    };
    let sleep = start(&["sleep", "1000"]);
    let full = frame(Kind::Stdin, 1, &vec![0; 64 * 1024]).repeat(7);
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no frame's header"),
        (frame(Kind::Start, 1, b"{}"), "a command that cannot be read"),
        ([sleep.clone(), sleep.clone()].concat(), "a command on a channel that has one"),
        ([sleep.clone(), full].concat(), "more standard input than there is room for"),
        (frame(Kind::Signal, 1, b""), "a signal that is not one byte"),
        (frame(Kind::Resize, 1, b"123"), "a size that is not four bytes"),
        (frame(Kind::Taken, 1, b"12345"), "a count that is not four bytes"),
        (frame(Kind::Stdout, 1, b"x"), "a frame that only a session sends"),
    ];
    for (bytes, why) in cases {
        let said = format!("toolbox: session: malformed input: {why}\n");
        assert_eq!(feed(&bytes).await, (Some(1), said));
    }
    // Late frames, strange signals and sizes are no reason, nor is an end in the middle of a frame.
    let fine = [
        frame(Kind::Stdin, 9, b"x"),
        frame(Kind::StdinEnd, 9, b""),
        frame(Kind::Abandon, 9, b""),
        sleep,
        frame(Kind::Signal, 1, &[0]),
        frame(Kind::Signal, 1, &[200]),
        frame(Kind::Resize, 1, &[0; 4]),
        frame(Kind::Taken, 1, &[255; 4]),
        vec![3, 1],
    ];
    assert_eq!(feed(&fine.concat()).await, (Some(0), String::new()));
    assert_eq!(feed(&start(&[])).await, (Some(0), String::new()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_session_crash_or_hang(
        frames in prop::collection::vec((0..13_u8, 0..3_u32, prop::collection::vec(any::<u8>(), 0..9)), 0..20),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        for (kind, channel, payload) in frames {
            match Kind::from_byte(kind) {
                Some(kind) => bytes.extend(frame(kind, channel, &payload)),
                None => bytes.push(kind),
            }
        }
        bytes.extend(rest);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (code, said) = runtime.block_on(feed(&bytes));
        prop_assert!(matches!(code, Some(0 | 1)), "{code:?}: {said}");
        prop_assert!(!said.contains("panicked"), "{said}");
    }
}
