//! Much data, in both directions, and nobody who takes it.

use std::time::Duration;

use claude_bottle::bottle::{Bottle, BottleError, Command, End, Event};

use crate::bottle::{Open, sh, soon};

const GIB: u64 = 1024 * 1024 * 1024;

#[tokio::test]
async fn a_gibibyte_of_output_is_cut_and_counted() {
    let bottle = Open::new().await;
    let command = Command::new("head").args(["-c", "1G", "/dev/zero"]).output_limit(100_000);
    let output = soon(bottle.exec(command)).await.unwrap();
    assert_eq!(output.end, End::Code(0));
    assert_eq!((output.stdout.len(), output.stdout_cut), (100_000, GIB - 100_000));
    assert_eq!((output.stderr.len(), output.stderr_cut), (0, 0));
}

#[tokio::test]
async fn each_stream_has_its_own_limit() {
    let bottle = Open::new().await;
    let command = sh("head -c 1000 /dev/zero; head -c 2000 /dev/zero >&2").output_limit(1500);
    let output = soon(bottle.exec(command)).await.unwrap();
    assert_eq!((output.stdout.len(), output.stdout_cut), (1000, 0));
    assert_eq!((output.stderr.len(), output.stderr_cut), (1500, 500));
    let nothing = soon(bottle.exec(sh("echo x").output_limit(0))).await.unwrap();
    assert_eq!((nothing.stdout.len(), nothing.stdout_cut), (0, 2));
}

#[tokio::test]
async fn ten_mebibytes_go_in_and_come_out() {
    let bytes: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|at| (at % 251) as u8).collect();
    let bottle = Open::new().await;
    let count = soon(bottle.exec(sh("wc -c").stdin(bytes.clone()))).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&count.stdout).trim(), bytes.len().to_string());
    let command = Command::new("cat").stdin(bytes.clone()).output_limit(u64::MAX);
    let output = soon(bottle.exec(command)).await.unwrap();
    assert!(output.stdout == bytes);
}

#[tokio::test]
async fn a_command_that_never_reads_is_killed_by_its_time_out_all_the_same() {
    let bottle = Open::new().await;
    let command = Command::new("sleep").arg("1000").stdin(vec![0; 10 * 1024 * 1024]);
    let command = command.timeout(Duration::from_millis(200));
    assert_eq!(soon(bottle.exec(command)).await.unwrap().end, End::TimedOut);
}

#[tokio::test]
async fn a_signal_overtakes_input_that_nobody_reads() {
    let bottle = Open::new().await;
    let command = Command::new("sleep").arg("1000").stream_stdin();
    let mut running = bottle.start(command).await.unwrap();
    let mut stdin = running.take_stdin().unwrap();
    let writing = tokio::spawn(async move { stdin.write(&vec![0; 10 * 1024 * 1024]).await });
    // Others are not held up.
    assert_eq!(bottle.sh("echo aside").await.stdout, b"aside\n");
    assert!(!writing.is_finished(), "the window is open without bound");
    running.signal(15);
    assert_eq!(soon(running.output()).await.unwrap().end, End::Signal(15));
    let written = soon(writing).await.unwrap();
    assert!(matches!(written, Err(BottleError::CommandEnded)), "{written:?}");
}

#[tokio::test]
async fn input_for_a_command_that_closed_it_is_swallowed() {
    let bottle = Open::new().await;
    let command = sh("exec <&-; echo closed; read x <&2; exit 3").stdin(vec![0; 1024 * 1024]);
    let output = soon(bottle.exec(command)).await.unwrap();
    assert_eq!(output.stdout, b"closed\n");
    assert!(matches!(output.end, End::Code(_)), "{}", output.end);
}

#[tokio::test]
async fn output_that_nobody_reads_waits_in_the_bottle() {
    let bottle = Open::new().await;
    let command = Command::new("head").args(["-c", "1G", "/dev/zero"]).output_limit(u64::MAX);
    let mut running = bottle.start(command).await.unwrap();
    // The others go on, however long the first one is left alone, and it is stopped, not buffered.
    for _ in 0..20 {
        assert_eq!(bottle.sh("echo aside").await.stdout, b"aside\n");
    }
    running.signal(9);
    let mut seen = 0;
    let ended = loop {
        match soon(running.next()).await.unwrap() {
            Event::Stdout(bytes) => seen += bytes.len(),
            Event::Stderr(bytes) => panic!("{}", String::from_utf8_lossy(&bytes)),
            Event::Ended(ended) => break ended,
        }
    };
    assert_eq!(ended.end, End::Signal(9));
    // The window and what the pipe holds.
    assert!(seen <= 2 * 256 * 1024, "{seen} bytes");
}

#[tokio::test]
async fn input_is_streamed_and_answered_while_the_command_runs() {
    let bottle = Open::new().await;
    let mut running = bottle.start(Command::new("cat").stream_stdin()).await.unwrap();
    let mut stdin = running.take_stdin().unwrap();
    assert!(running.take_stdin().is_none(), "once");
    for word in ["one", "two"] {
        stdin.write(word.as_bytes()).await.unwrap();
        assert_eq!(crate::bottle::read_until(&mut running, word).await, word);
    }
    drop(stdin);
    assert_eq!(soon(running.output()).await.unwrap().end, End::Code(0));
}
