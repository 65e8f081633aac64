//! Commands in the bottle.

use std::time::Duration;

use claude_bottle::bottle::{Command, End};
use libtest_mimic::Trial;

use crate::bottle::{exec, launch, sh, soon, text};
use crate::trials::trials;

#[tokio::main(flavor = "current_thread")]
async fn output_error_and_code_come_back() {
    let arena = launch().await;
    let say = Command::new(arena.bottle().toolbox()).args(["say", "out", "err", "42"]);
    let output = exec(&*arena, say).await;
    assert_eq!(output.end, End::Code(42));
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );

    assert_eq!(exec(&*arena, sh("kill -9 $$")).await.end, End::Signal(9));
    let missing = exec(&*arena, Command::new("no-such-program")).await.end;
    assert!(matches!(missing, End::NotStarted { errno: 2, .. }), "{missing:?}");
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn environment_folder_and_input_are_the_callers() {
    let arena = launch().await;
    let script = "echo $WHO; pwd; cat; echo $HOME";
    let command = sh(script).env("WHO", "me").cwd("/tmp").stdin("typed\n");
    assert_eq!(text(&exec(&*arena, command).await), "me\n/tmp\ntyped\n/home/agent");
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let arena = launch().await;
    let script = "echo before; sleep 1000 & sleep 1000";
    let output = exec(&*arena, sh(script).timeout(Duration::from_millis(300))).await;
    assert_eq!((output.end, output.stdout.as_slice()), (End::TimedOut, &b"before\n"[..]));
    let sleeping = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done 2>/dev/null | grep -c '^sleep'";
    loop {
        let output = exec(&*arena, sh(sleeping)).await;
        if output.stdout == b"0\n" {
            break;
        }
    }
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn output_is_bounded() {
    let arena = launch().await;
    let command = sh("head -c 10000000 /dev/zero; head -c 9 /dev/zero >&2").output_limit(1000);
    let output = exec(&*arena, command).await;
    assert_eq!((output.stdout.len(), output.stdout_cut), (1000, 9_999_000));
    assert_eq!((output.stderr.len(), output.stderr_cut), (9, 0));
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn a_bottle_that_was_torn_down_says_so() {
    let arena = launch().await;
    soon(arena.bottle().teardown()).await.unwrap();
    let error = soon(arena.bottle().exec(sh("true"))).await.unwrap_err();
    assert!(error.to_string().contains("session ended"), "{error}");
    soon(arena.teardown()).await.unwrap();
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        output_error_and_code_come_back,
        environment_folder_and_input_are_the_callers,
        a_command_that_takes_too_long_is_killed_with_all_that_it_started,
        output_is_bounded,
        a_bottle_that_was_torn_down_says_so,
    ]
}
