//! The program among others: its socket, its end, its arguments.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::json;

use crate::program::Gateway;
use crate::trials::trials;

/// Of the net namespace in which it was made, whichever that is.
fn it_serves_a_socket_that_it_inherits() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // What the configuration says does not matter then.
    let config = json!({ "allow": [], "listen": "127.0.0.1:1", "resolver": "127.0.0.1:9" });
    let mut gateway = Gateway::run(config, |command| {
        let mut handed = Command::new("sh");
        handed.args(["-c", "exec \"$0\" \"$@\" 3<&0 </dev/null"]).arg(command.get_program());
        handed.args(command.get_args().filter(|argument| *argument != "--until-eof"));
        handed.env("LISTEN_FDS", "1").stdin(Stdio::from(OwnedFd::from(listener)));
        handed
    });
    assert_eq!(gateway.address, address);
    let answer = gateway.ask("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(gateway.end_by("TERM"), Some(0));
}

/// Where it is in a container of its own, which has no file.
fn its_configuration_may_be_in_a_variable() {
    let start = |text: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("--until-eof").env("BOTTLE_GATEWAY", text).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].concat())
    };
    let (code, said) = start(r#"{"allow": [], "listen": "127.0.0.1:0"}"#);
    assert!(code == Some(0) && said.starts_with(b"listening on 127.0.0.1:"), "{said:?}");
    let (code, said) = start(r#"{"allow": [], "weakness": "allow-all"}"#);
    let said = String::from_utf8(said).unwrap();
    assert!(code == Some(2) && said.starts_with("gateway: BOTTLE_GATEWAY: "), "{said}");
}

fn signals_that_ask_it_to_end_end_it() {
    for signal in ["TERM", "INT"] {
        let mut gateway = Gateway::allowing(&[]);
        let open = gateway.connect();
        assert_eq!(gateway.end_by(signal), Some(0), "{signal}");
        drop(open);
    }
}

fn what_it_cannot_understand_is_an_error_and_nothing_is_let_through() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut told = |config: &str, more: &[&str]| {
        use std::io::{Seek as _, Write as _};
        file.as_file().set_len(0).unwrap();
        file.rewind().unwrap();
        write!(file, "{config}").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        let output = command.arg("--config").arg(file.path()).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(told("{", &[]).contains("EOF"));
    assert!(told(r#"{"allow": ["*"], "listen": "127.0.0.1:0"}"#, &[]).contains("\"*\" is no host"));
    assert!(told(r#"{"allow": []}"#, &[]).contains("no socket was inherited"));
    let listens = r#"{"allow": [], "listen": "127.0.0.1:0"}"#;
    assert!(told(listens, &["--weakness", "all"]).contains("no weakness is called all"));
    assert!(told(listens, &["--allow-all"]).contains("usage"));
    // A weakness is none of a configuration's keys.
    let weak = r#"{"allow": [], "listen": "127.0.0.1:0", "weakness": "allow-all"}"#;
    assert!(told(weak, &[]).contains("unknown field"));
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        it_serves_a_socket_that_it_inherits,
        its_configuration_may_be_in_a_variable,
        signals_that_ask_it_to_end_end_it,
        what_it_cannot_understand_is_an_error_and_nothing_is_let_through,
    ]
}
