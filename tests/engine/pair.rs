//! An agent and its bundle on a real engine: daemons reached by their names, resolver, hosts and routes as planned, seen from
//! both sides.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use claude_bottle::backend::docker::plan::Step;
use claude_bottle::backend::docker::spec::Mount;
use claude_bottle::backend::docker::{Engine, Launched, Spec, launch};
use claude_bottle::bottle::{Bottle as _, Command};
use claude_bottle::host::Host;
use claude_bottle_protocol::Nonce;
use claude_bottle_protocol::prober::{Action, Attempt, Batch, Fuse, How, Line, Target};
use libtest_mimic::Trial;
use serde_json::json;

use crate::trials::{skip, trials};

/// Where the tests' tools are shown in both containers.
const TOOLS: &str = "/tools";

async fn engine() -> Engine {
    match Host::detect().docker {
        Ok(docker) => Engine::connect(&docker.endpoint, "/proc").await.unwrap(),
        Err(lack) => skip(format!("needs docker: {lack}")),
    }
}

/// A folder for both containers: a busybox that needs no library, and a table of daemons that echo whatever they are sent.
fn tools() -> tempfile::TempDir {
    let Ok(busybox) = which::which("busybox") else {
        skip("there is no busybox");
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(busybox, folder.path().join("busybox")).unwrap();
    let busybox = format!("{TOOLS}/busybox");
    let echoes = |port: u16| {
        let argv = [&busybox, "nc", "-ll", "-p", &port.to_string(), "-e", &busybox, "cat"];
        json!({ "argv": argv, "ready_port": port })
    };
    // On the bundle's own loopback.
    let inside = [&busybox, "httpd", "-f", "-p", "127.0.0.1:9099", "-h", TOOLS];
    let table = json!({
        "pipelock": echoes(8888),
        "egress": { "argv": inside, "ready_port": 9099 },
        "gitleaks": echoes(9200),
    });
    std::fs::write(folder.path().join("table.json"), table.to_string()).unwrap();
    make_readable(folder.path());
    folder
}

fn make_readable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn spec(tools: &Path) -> Spec {
    let mut spec = Spec::new(format!("test-pair-{:08x}", rand::random::<u32>()));
    let shown =
        || Mount { source: tools.display().to_string(), target: TOOLS.to_owned(), writable: false };
    spec.mounts.push(shown());
    spec.bundle.mounts.push(shown());
    spec.bundle.daemons = ["pipelock", "egress", "gitleaks", "supervise"].map(str::to_owned).into();
    spec.bundle.env =
        BTreeMap::from([("BOTTLE_DAEMON_TABLE".to_owned(), format!("{TOOLS}/table.json"))]);
    spec
}

/// How an ordinary client in the bottle fares at each of these.
async fn dial(launched: &Launched, targets: &[(&str, u16)]) -> Vec<How> {
    let net = PathBuf::from(format!("/proc/{}/ns/net", launched.agent.pid));
    let inode = std::fs::metadata(net).unwrap().ino();
    let attempts = (0..).zip(targets).map(|(id, (host, port))| Attempt {
        id,
        nonce: Nonce::from_bits(id.into()),
        patience_ms: 5000,
        action: Action::Tcp(Target { host: (*host).to_owned(), port: *port }),
    });
    let batch = Batch {
        token: Nonce::from_bits(99),
        fuse: Fuse::Namespaces(vec![inode]),
        attempts: attempts.collect(),
    };
    let mut line = serde_json::to_vec(&batch).unwrap();
    line.push(b'\n');
    let bottle = &launched.bottle;
    let prober = Command::new(bottle.toolbox()).arg("prober").stdin(line);
    let output = bottle.exec(prober).await.unwrap();
    let mut words = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Line::Done { id, word, .. } = serde_json::from_slice(line).unwrap() {
            words.insert(id, word.how);
        }
    }
    words.into_values().collect()
}

/// What a command of the tests' tools says in the bottle.
async fn said(launched: &Launched, arguments: &[&str]) -> String {
    let command = Command::new(format!("{TOOLS}/busybox")).args(arguments.iter().copied());
    let output = launched.bottle.exec(command).await.unwrap();
    assert!(output.end.is_success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one address that a name has in the bottle.
async fn looked_up(launched: &Launched, name: &str) -> String {
    let told = said(launched, &["nslookup", "-type=a", name]).await;
    let answer = told.split_once("Name:").map(|(_, answer)| answer).unwrap_or_default();
    let addresses: Vec<_> =
        answer.lines().filter_map(|line| line.strip_prefix("Address: ")).map(str::trim).collect();
    assert_eq!(addresses.len(), 1, "{told}");
    addresses[0].to_owned()
}

#[tokio::main(flavor = "current_thread")]
async fn an_agent_reaches_its_bundles_daemons_by_name_and_nothing_is_but_as_planned() {
    let engine = engine().await;
    let tools = tools();
    let launched = Box::pin(launch(&engine, &spec(tools.path()), &|_| {})).await.unwrap();
    let plan = &launched.plan;
    let bundle = plan.bundle_address;

    // The daemons listen a moment after their init has started.
    let mut log = String::new();
    for _ in 0..100 {
        launched.bottle.bundle_log().await.unwrap().as_str().clone_into(&mut log);
        if ["pipelock", "egress", "gitleaks"]
            .iter()
            .all(|name| log.contains(&format!("{name}: listens on port")))
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // By the engine's own resolver, which knows them and asks nobody.
    let at_bundle = bundle.to_string();
    for alias in ["pipelock", "egress", "gitleaks", "supervise", "gateway", "bundle"] {
        assert_eq!(looked_up(&launched, alias).await, at_bundle, "{alias}");
    }
    let ports = [8888, 9200, 9099, 8889];
    let words = dial(&launched, &ports.map(|port| (at_bundle.as_str(), port))).await;
    // The third is bound to the bundle's own loopback, and nobody has the fourth.
    assert_eq!(words, [How::Answered, How::Answered, How::Refused, How::Refused], "{log}");

    // From inside.
    let resolv = said(&launched, &["cat", "/etc/resolv.conf"]).await;
    let servers: Vec<_> = resolv.lines().filter(|line| line.starts_with("nameserver")).collect();
    assert_eq!(servers, ["nameserver 127.0.0.11"], "{resolv}");
    let hosts = said(&launched, &["cat", "/etc/hosts"]).await;
    let own = format!("{}\t{}", plan.agent_address, plan.name);
    let others = ["localhost", "ip6-", &own];
    let strange = hosts.lines().find(|line| !others.iter().any(|known| line.contains(known)));
    assert_eq!(strange, None, "{hosts}");
    let route = said(&launched, &["cat", "/proc/net/route"]).await;
    let v6 = said(&launched, &["cat", "/proc/net/if_inet6"]).await;

    // From outside: the same, and whom the engine's resolver would ask.
    let outside = |file: &str| {
        std::fs::read_to_string(format!("/proc/{}/net/{file}", launched.agent.pid)).unwrap()
    };
    assert_eq!((outside("route"), outside("if_inet6")), (route.clone(), v6.clone()));
    let routes: Vec<_> = route.lines().skip(1).collect();
    let to_bundle = format!("eth0\t{:08X}\t00000000", u32::from(bundle).to_be());
    assert!(matches!(routes[..], [only] if only.starts_with(&to_bundle)), "{route}");
    assert_eq!(v6.lines().find(|line| !line.ends_with(" lo")), None);
    let inspected = engine.docker().inspect_container(&launched.agent.id, None).await.unwrap();
    assert_eq!(inspected.host_config.unwrap().dns, Some(vec![at_bundle]));

    launched.bottle.teardown().await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn a_daemon_that_nobody_knows_is_refused_before_anything_is_made() {
    let engine = engine().await;
    let mut spec = Spec::new(format!("test-daemon-{:08x}", rand::random::<u32>()));
    spec.bundle.daemons = vec!["pipelok".to_owned()];
    let made = |step| assert_eq!(step, Step::Image, "it is for every bottle");
    let error = Box::pin(launch(&engine, &spec, &made)).await.unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains("pipelok"), "{text}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        an_agent_reaches_its_bundles_daemons_by_name_and_nothing_is_but_as_planned,
        a_daemon_that_nobody_knows_is_refused_before_anything_is_made,
    ]
}
