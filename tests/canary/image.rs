//! The kind `image`, with a real registry and a real engine.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use bollard::Docker;
use claude_bottle::canary::{self, Finding};
use claude_bottle::host::Host;
use claude_bottle_protocol::VERSION;
use libtest_mimic::Trial;

use crate::one;
use crate::registry::{Registry, push};
use crate::trials::{skip, trials};

async fn engine(host: &Host) -> Docker {
    let docker = match &host.docker {
        Ok(docker) => docker,
        Err(lack) => skip(format!("needs docker: {lack}")),
    };
    docker.endpoint.client(Duration::from_secs(60)).await.unwrap()
}

fn about(repository: &str, digest: &str, tag: &str, prints: &str, within: &str) -> String {
    format!(
        "title = \"T\"\nwhy = \"W\"\n[check]\nkind = \"image\"\nimage = \"{repository}\"\n\
         digest = \"{digest}\"\ntag = \"{tag}\"\nwithin = \"{within}\"\n\
         runs = {{ args = [\"version\"], prints = [\"{prints}\"] }}\n"
    )
}

async fn checked(host: &Host, text: &str) -> Finding {
    let canary = one(text);
    assert_eq!(canary::unmet(&canary, host), None);
    canary::run(&canary, host).await.finding
}

fn is_changed(finding: &Finding, word: &str) {
    assert!(matches!(finding, Finding::Changed { .. }), "{finding:?}");
    assert!(finding.detail().contains(word), "{finding:?}");
}

fn is_unreachable(finding: &Finding, word: &str) {
    assert!(matches!(finding, Finding::Unreachable { .. }), "{finding:?}");
    assert!(finding.detail().contains(word), "{finding:?}");
}

/// One test, since one registry and one pushed image serve all of it.
#[tokio::main]
async fn an_image_in_every_state_of_its_registry() {
    let host = Host::detect();
    let docker = engine(&host).await;
    let registry = Registry::start();
    let repository = registry.repository();
    let first = push(&docker, &repository, "1.0", "first").await;
    let with = |digest: &str, prints: &str| about(&repository, digest, "1.0", prints, "2m");
    let is_gone = async || {
        let images = docker.inspect_image(&format!("{repository}@{first}")).await;
        assert!(images.is_err(), "the pulled image is still there");
    };

    // As it was; what was pulled is gone again.
    let finding = checked(&host, &with(&first, VERSION)).await;
    assert_eq!(finding, Finding::Unchanged { seen: VERSION.to_owned() });
    is_gone().await;

    // Another program than expected.
    is_changed(&checked(&host, &with(&first, "something else")).await, "does not print");
    let failing = with(&first, VERSION).replace("[\"version\"]", "[\"no-such-role\"]");
    is_changed(&checked(&host, &failing).await, "ended with");

    // A manifest that is not there, a tag that is not there, a repository that is not there.
    let zeroes = format!("sha256:{}", "0".repeat(64));
    is_changed(&checked(&host, &with(&zeroes, VERSION)).await, "pulling");
    let untagged = with(&first, VERSION).replace("\"1.0\"", "\"9.9\"");
    is_changed(&checked(&host, &untagged).await, "looking up");
    let elsewhere = with(&first, VERSION).replace("/canary\"", "/nothing\"");
    is_changed(&checked(&host, &elsewhere).await, "pulling");

    // A tag that has moved: the pinned image still is there.
    let second = push(&docker, &repository, "1.0", "second").await;
    assert_ne!(first, second);
    let finding = checked(&host, &with(&first, VERSION)).await;
    is_changed(&finding, &format!("is {second} now, no longer {first}"));
    is_gone().await;

    // A registry so slow that time is up.
    let slow = trickle(registry.port);
    let waiting = about(&format!("127.0.0.1:{slow}/canary"), &second, "1.0", VERSION, "2s");
    is_unreachable(&checked(&host, &waiting).await, "could not be had and run within 2s");

    // Other bytes than those of the digest: a layer's, then a manifest, another one that is as good, and one that is none.
    let manifest: serde_json::Value = serde_json::from_str(&registry.read(&second)).unwrap();
    registry.corrupt(manifest["layers"][0]["digest"].as_str().unwrap());
    is_changed(&checked(&host, &with(&second, VERSION)).await, "pulling");
    registry.replace(&first, &registry.read(&second));
    is_changed(&checked(&host, &with(&first, VERSION)).await, "verification failed");
    registry.corrupt(&first);
    // What its own registry cannot read, it does not hand out: an error of its own, of which nothing follows.
    is_unreachable(&checked(&host, &with(&first, VERSION)).await, "pulling");

    // Nobody there.
    drop(registry);
    is_unreachable(&checked(&host, &with(&second, VERSION)).await, "connection refused");
}

/// A way to the registry by which its answers come a byte at a time. Returns its port.
fn trickle(registry: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten().take(64) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", registry)) else { return };
            let (mut up, mut down) = (server.try_clone().unwrap(), server);
            let (mut from, mut to) = (client.try_clone().unwrap(), client);
            std::thread::spawn(move || std::io::copy(&mut from, &mut up));
            std::thread::spawn(move || {
                let mut byte = [0];
                while down.read_exact(&mut byte).is_ok() && to.write_all(&byte).is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    port
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![an_image_in_every_state_of_its_registry,]
}
