//! What a manifest may name, the gateway takes: two readers of hosts, one for people and one for clients.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use claude_bottle::bundle::gateway::config;
use claude_bottle::bundle::pipelock::{Allowlist, Source, Wanted, classify};
use claude_bottle::toolbox;
use claude_bottle_protocol::gateway::Config;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

/// Texts near to hosts of every kind; most of them are one.
const TEXTS: &str = "(\\*\\.)?([a-z0-9_-]{1,8}|[a-zé字ß]{1,6}|xn--[a-z0-9-]{1,8})(\\.[a-z0-9_-]{1,5}|\\.[éü]{1,3}){0,3}\\.?|\
                     [0-9a-f]{1,4}(:[0-9a-f]{1,4}){0,3}::[0-9a-f]{1,4}(/[0-9]{1,3})?|[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,2})?";

fn install(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("gateway");
    // From another process: no other test's child inherits it open for writing, which would keep it from being executed.
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(&toolbox::gateway_bytes().unwrap()).unwrap();
    assert!(writer.wait().unwrap().success());
    path
}

#[test]
fn every_host_that_a_list_can_have_is_a_rule_of_the_gateways() {
    let mut runner = TestRunner::deterministic();
    let texts = proptest::string::string_regex(TEXTS).unwrap();
    let hosts: Vec<_> = (0..5000)
        .filter_map(|_| classify(&texts.new_tree(&mut runner).unwrap().current()).ok())
        .collect();
    let source = Source::Egress { line: 1 };
    let wanted = |host| Wanted::web(source.clone(), host);
    let list = Allowlist::of(hosts.into_iter().map(wanted));
    assert!(list.iter().count() > 1000, "{} hosts", list.iter().count());
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = Config { listen: Some(listen), resolver: Some(listen), ..config(&list) };

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.json");
    std::fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();
    let gateway = |file: &std::path::Path| {
        let mut command = Command::new(install(&folder));
        let output = command.args(["--until-eof", "--config"]).arg(file).stdin(Stdio::null());
        let output = output.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = gateway(&file);
    assert!(code == Some(0) && said.starts_with("listening on "), "{said}");
    // One that is none would have been told.
    let other = Config { allow: [config.allow, vec!["a b.test:443".into()]].concat(), ..config };
    std::fs::write(&file, serde_json::to_vec(&other).unwrap()).unwrap();
    let (code, said) = gateway(&file);
    assert!(code == Some(2) && said.contains("a b.test:443"), "{said}");
}
