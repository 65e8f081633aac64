//! The kind `engine`: the real one, and stand-ins for engines of another age, which cannot run here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use claude_bottle::canary::{self, Finding};
use claude_bottle::host::{Docker, Endpoint, Host};
use libtest_mimic::Trial;

use crate::trials::{skip, trials};
use crate::{one, shipped_folder};

fn shipped() -> String {
    std::fs::read_to_string(shipped_folder().join("docker-engine.toml")).unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn the_engine_of_this_host_answers_as_assumed() {
    let host = Host::detect();
    let canary = one(&shipped());
    if let Some(why) = canary::unmet(&canary, &host) {
        skip(why);
    }
    let finding = canary::run(&canary, &host).await.finding;
    assert!(
        matches!(&finding, Finding::Unchanged { seen } if seen.contains("API 1.")),
        "{finding:?}"
    );

    let younger = one(&shipped().replace("\"1.41\"", "\"1.999\""));
    let finding = canary::run(&younger, &host).await.finding;
    assert!(finding.detail().contains("1.999 is the oldest that will do"), "{finding:?}");
    let other = one(&shipped().replace("\"Runtimes.runc\"", "\"Runtimes.no-such-runtime\""));
    let finding = canary::run(&other, &host).await.finding;
    let what = "the answer to `GET /info` has no Runtimes.no-such-runtime".to_owned();
    assert_eq!(finding, Finding::Changed { what });
}

/// A host whose engine is a stand-in at this socket.
fn host(socket: &Path) -> Host {
    let endpoint = Endpoint::Unix(socket.to_owned());
    Host { docker: Ok(Docker { endpoint, connected: true }), ..Host::bare() }
}

/// What comes of it where a stand-in answers every question with this body.
async fn answered_by_stand_in(body: &'static str) -> Finding {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten().take(16) {
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    canary::run(&one(&shipped()), &host(&socket)).await.finding
}

#[tokio::main(flavor = "current_thread")]
async fn a_stand_in_that_answers_otherwise_has_changed() {
    for body in ["<html>it works</html>", "{\"ApiVersion\": 7}", "{\"ApiVersion\": \"new\"}", "{}"]
    {
        let finding = answered_by_stand_in(body).await;
        assert!(matches!(finding, Finding::Changed { .. }), "{body}: {finding:?}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn an_engine_that_is_not_there_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let finding = canary::run(&one(&shipped()), &host(&socket)).await.finding;
    assert!(matches!(finding, Finding::Unreachable { .. }), "{finding:?}");
    let why = canary::unmet(&one(&shipped()), &Host::bare());
    assert_eq!(why.as_deref(), Some("needs docker: made up without it"));
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        the_engine_of_this_host_answers_as_assumed,
        a_stand_in_that_answers_otherwise_has_changed,
        an_engine_that_is_not_there_says_nothing,
    ]
}
