//! What a bottle on an engine has that the embedded backend has not: an engine that might make things, and a way out over it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use bollard::models::{ContainerCreateBody, ContainerSummary, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, KillContainerOptions,
    ListContainersOptions, RemoveVolumeOptions, WaitContainerOptions,
};
use claude_bottle_protocol::Nonce;
use futures_util::StreamExt as _;
use libtest_mimic::Trial;
use serde_json::json;

use crate::build::Build;
use crate::engine::{IMAGE, Private, WEB, WEB_LISTENER, counted};
use crate::project::{On, Project, text};
use crate::trials::trials;

/// What a client of busybox says where no route leads to [`WEB`].
const NO_WAY: &str = "nc: can't connect to remote host (203.0.113.10): Network is unreachable";

/// On an engine where nobody else makes anything: counted before and after, with its stream of events open in between.
fn a_dry_run_makes_nothing() {
    // The program wants a place that lives as long as it does.
    let private: &'static Private = Box::leak(Box::new(Private::start()));
    let egress = json!(["b.test"]);
    let project = Project::on(On::Docker(private), &Build::new().bottle("egress", egress.clone()));
    let bundled = Build::new().bottle("egress", egress).bottle("daemons", json!(["pipelock"]));
    let bundled = bundled.bottle("bundle-image", json!("localhost/bundle:1"));
    let bundled = Project::on(On::Docker(private), &bundled);
    private.runtime.block_on(async {
        let docker = private.client.docker();
        let events = EventsOptionsBuilder::default().build();
        let mut events = Box::pin(docker.events(Some(events)));
        // A volume of the test's own shows where the stream begins and where it ends.
        let mark = async |name: &str| {
            let name = Some(name.to_owned());
            let volume = VolumeCreateRequest { name, ..VolumeCreateRequest::default() };
            docker.create_volume(volume).await.unwrap();
        };
        let mut next = async || {
            let event = events.next().await.unwrap().unwrap();
            event.actor.and_then(|actor| actor.id).unwrap_or_default()
        };
        // Whoever asks for events is not told when they begin.
        let marking = async {
            for number in 0..500 {
                mark(&format!("begins-{number}")).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            panic!("the engine tells no events");
        };
        tokio::select! {
            _ = next() => {}
            () = marking => {}
        }
        mark("begun").await;
        while next().await != "begun" {}
        let before = counted(&private.client).await;
        for (project, format) in
            [(&project, "text"), (&project, "json"), (&bundled, "text"), (&bundled, "json")]
        {
            let mut dry = project.start(&["--dry-run", "--format", format]);
            text(&tokio::task::spawn_blocking(move || dry.output().unwrap()).await.unwrap());
        }
        assert_eq!(counted(&private.client).await, before);
        mark("end").await;
        assert_eq!(next().await, "end", "nothing happened in between");
        // What is no dry run is seen by the same stream.
        let mut start = project.start(&["--", "sh", "-c", "exit 0"]);
        text(&tokio::task::spawn_blocking(move || start.output().unwrap()).await.unwrap());
        let made = next().await;
        assert_ne!(made, "end");
        docker.remove_volume("end", None::<RemoveVolumeOptions>).await.unwrap();
        private.engine.end().await.unwrap();
    });
}

fn what_the_manifest_names_is_reached_through_the_gateway_and_nothing_else() {
    let On::Docker(private) = On::docker() else { unreachable!("it is an engine") };
    let project =
        Project::on(On::Docker(private), &Build::new().bottle("egress", json!(["allowed.test"])));
    let nonces: Vec<_> = (0..4).map(|_| Nonce::from_bits(rand::random())).collect();
    let [by_name, denied, direct, control] = &nonces[..] else { unreachable!("there are four") };
    let script = format!(
        "wget -q -O - http://allowed.test/{by_name}
         wget -q -O - http://denied.test/{denied} 2>&1
         unset http_proxy
         echo {direct} | nc {WEB} 80 2>&1
         tail=$(grep -c . /proc/net/route); echo routes $tail
         env | grep -c -i proxy"
    );
    let output = project.start(&["--", "sh", "-c", &script]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(told.starts_with(&by_name.to_string()), "{told} {said}");
    // What was not allowed to be tried, or could not be, is no evidence: it has to say why it failed.
    assert!(told.contains("403") && told.contains(NO_WAY), "{told} {said}");
    // A heading and one route; and of the six variables all but the one that was unset.
    assert!(told.ends_with("routes 2\n5\n"), "{told}");
    assert!(said.contains("refused: denied.test:80: the host is not allowed\n"), "{said}");

    // The control: who is in no bottle reaches that server by itself.
    let log = private.runtime.block_on(async {
        outside(private, &["wget", "-q", "-O", "-", &format!("http://{WEB}/{control}")]).await;
        private.engine.witness().drain().await
    });
    let reached = |nonce| log.reached(nonce, WEB_LISTENER).is_some();
    assert_eq!([by_name, control].map(reached), [true, true]);
    assert_eq!([denied, direct].map(|nonce| log.seen.contains_key(nonce)), [false, false]);
}

/// Whoever has lost the gateway, and all of the bundle with it, has no other way: neither where that was, nor past it.
fn without_its_bundle_a_command_reaches_nothing() {
    let On::Docker(private) = On::docker() else { unreachable!("it is an engine") };
    let project =
        Project::on(On::Docker(private), &Build::new().bottle("egress", json!(["allowed.test"])));
    let nonces: Vec<_> = (0..4).map(|_| Nonce::from_bits(rand::random())).collect();
    let [before, after, direct, control] = &nonces[..] else { unreachable!("there are four") };
    let script = format!(
        "wget -q -O - http://allowed.test/{before} && echo ready; read -r go
         proxy=${{http_proxy#http://}}
         echo {after} | nc -w 10 ${{proxy%:*}} ${{proxy#*:}} 2>&1
         echo {direct} | nc {WEB} 80 2>&1
         echo over"
    );
    let mut start = project.start(&["--", "sh", "-c", &script]);
    let mut child = start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let begun: Vec<_> = lines.by_ref().take(2).collect();
    assert_eq!(begun, [before.to_string().as_str(), "ready"]);

    private.runtime.block_on(async {
        let docker = private.client.docker();
        let all = docker.list_containers(None::<ListContainersOptions>).await.unwrap();
        let is_its_bundle = |container: &&ContainerSummary| {
            let labels = container.labels.clone().unwrap_or_default();
            let owner = labels.get("claude-bottle.owner").and_then(|owner| owner.split(':').nth(3));
            let names = container.names.clone().unwrap_or_default();
            owner == Some(child.id().to_string().as_str())
                && names.iter().any(|name| name.ends_with("-bundle"))
        };
        let bundle = all.iter().find(is_its_bundle).expect("the bundle");
        let id = bundle.id.as_deref().unwrap();
        docker.kill_container(id, None::<KillContainerOptions>).await.unwrap();
    });
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let told: Vec<_> = lines.collect();
    let [gateway, directly, over] = &told[..] else { panic!("{told:?}") };
    let failed = gateway.ends_with(": No route to host") || gateway == "nc: timed out";
    assert!(failed, "{told:?}");
    assert_eq!((directly.as_str(), over.as_str()), (NO_WAY, "over"));
    child.wait().unwrap();

    let log = private.runtime.block_on(async {
        outside(private, &["wget", "-q", "-O", "-", &format!("http://{WEB}/{control}")]).await;
        private.engine.witness().drain().await
    });
    let reached = |nonce| log.reached(nonce, WEB_LISTENER).is_some();
    assert_eq!([before, control].map(reached), [true, true]);
    assert_eq!([after, direct].map(|nonce| log.seen.contains_key(nonce)), [false, false]);
}

/// Runs a command in an ordinary container of the engine.
async fn outside(private: &Private, command: &[&str]) {
    let docker = private.client.docker();
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(command.iter().map(ToString::to_string).collect()),
        ..ContainerCreateBody::default()
    };
    let name = format!("outside-{:08x}", rand::random::<u32>());
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    docker.create_container(Some(options), body).await.unwrap();
    docker.start_container(&name, None).await.unwrap();
    let ended = docker.wait_container(&name, None::<WaitContainerOptions>).next().await;
    assert!(matches!(ended, Some(Ok(ref end)) if end.status_code == 0), "{ended:?}");
    private.client.remove_container(&name).await.unwrap();
}

fn offline_the_bundle_has_no_way_out() {
    let On::Docker(private) = On::docker() else { unreachable!("it is an engine") };
    let project =
        Project::on(On::Docker(private), &Build::new().bottle("egress", json!(["allowed.test"])));
    let told = text(&project.sh("env | grep -c -i proxy; echo ran"));
    assert_eq!(told, "0\nran\n");
}

fn what_is_not_on_the_engine_is_told() {
    let On::Docker(private) = On::docker() else { unreachable!("it is an engine") };
    let project = Project::on(On::Docker(private), &Build::new());
    let manifest = Build::new().bottle("image", json!("localhost/absent:1"));
    std::fs::write(project.path("claude-bottle.json"), manifest.text()).unwrap();
    let output = project.sh("exit 0");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the engine has no image \"localhost/absent:1\""), "{said}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_dry_run_makes_nothing,
        what_the_manifest_names_is_reached_through_the_gateway_and_nothing_else,
        without_its_bundle_a_command_reaches_nothing,
        offline_the_bundle_has_no_way_out,
        what_is_not_on_the_engine_is_told,
    ]
}
