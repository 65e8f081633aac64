//! A bundle of an image of its own, on an engine: what its daemons get, who reaches them, and what is told where they do not run.
//!
//! pipelock, mitmdump and gitleaks are not here: stand-ins in their places show what they are given. That of pipelock lets through
//! what its configuration names, by our own gateway, and logs as pipelock does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::OnceLock;

use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use claude_bottle::backend::docker::plan::label;
use claude_bottle_protocol::supervise::Status;
use claude_bottle_protocol::{Nonce, VERSION};
use futures_util::StreamExt as _;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::build::Build;
use crate::engine::{IMAGE, Private, WEB_LISTENER, counted, import, tree};
use crate::project::{On, Project, text};
use crate::trials::trials;

/// The bundle's image.
const BUNDLE: &str = "localhost/bundle:1";

const PIPELOCK: &str = r#"#!/bin/sh
[ "$1 $2 $4 $#" = "run --config --listen 5" ] || { echo "usage: $*"; exit 64; }
names=$(sed -n '/^api_allowlist:/,/^[a-z]*:/s/^ *- *//p' "$3")
case $names in *broken.test*) echo 'no such host: broken.test'; exit 3;; esac
list=
for name in $names; do list="$list,\"$name\""; done
export BOTTLE_GATEWAY="{\"allow\":[${list#,}],\"listen\":\"$5\"}"
/bottle/gateway | while read -r line; do
  case $line in
    *'"refused":"'*)
      target=${line#*'"target":"'} why=${line#*'"refused":"'}
      echo "{\"event\":\"blocked\",\"target\":\"${target%%\"*}\",\"reason\":\"${why%%\"*}\"}";;
  esac
done
"#;

const MITMDUMP: &str = r#"#!/bin/sh
[ "$1 $3 $#" = "--listen-host --listen-port 4" ] || exit 64
exec httpd -f -p "$2:$4" -h /run/bottle
"#;

const GITLEAKS: &str = r"#!/bin/sh
trap 'exit 0' TERM
while :; do
  grep -rl hunter2 /scanned | sed 's/^/found: a secret in /'
  touch /scanned/home/x /scanned/1/x 2>/dev/null && echo 'found: a way to write'
  sleep 0.1
done
";

/// Has the engine make the bundle's image. There is a toolbox in it as well, which is not that of this version.
fn load(private: &Private) {
    let files = [
        ("pipelock", PIPELOCK),
        ("gitleaks-daemon", GITLEAKS),
        ("usr/bin/mitmdump", MITMDUMP),
        ("bottle/toolbox", "#!/bin/sh\nexit 70\n"),
    ];
    let busybox = which::which("busybox").unwrap();
    private.runtime.block_on(import(&private.client, BUNDLE, tree(&busybox, &files)));
}

/// The engine that most tests share, with that image.
fn engine() -> (On, &'static Private) {
    static LOADED: OnceLock<()> = OnceLock::new();
    let On::Docker(private) = On::docker() else { unreachable!("it is an engine") };
    LOADED.get_or_init(|| load(private));
    (On::Docker(private), private)
}

fn bundled(daemons: &[&str]) -> Build {
    Build::new()
        .bottle("bundle-image", json!(BUNDLE))
        .bottle("daemons", json!(daemons))
        .bottle("egress", json!(["allowed.test"]))
}

/// A command that waits for its input to end.
const WAITS: [&str; 4] = ["--", "sh", "-c", "echo ready; cat >/dev/null"];

/// A bottle whose command waits.
struct Waiting {
    child: Child,
    input: Option<ChildStdin>,
}

impl Waiting {
    fn start(project: &Project) -> Self {
        let mut start = project.start(&WAITS);
        let mut child = start
            .env("SECRET", "hunter2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let input = child.stdin.take();
        let mut waiting = Self { child, input };
        assert_eq!(line, "ready\n", "{}", waiting.end());
        waiting
    }

    /// Ends it; what it said on standard error.
    fn end(&mut self) -> String {
        if let Some(mut input) = self.input.take() {
            let _ = input.write_all(b"\n");
        }
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        }
        self.child.wait().unwrap();
        said
    }
}

/// The containers in this role of bottles that this process has launched, as the engine tells of them.
async fn containers(private: &Private, launcher: u32, role: &str) -> Vec<ContainerInspectResponse> {
    let docker = private.client.docker();
    let options = ListContainersOptionsBuilder::default().all(true).build();
    let mut found = Vec::new();
    for container in docker.list_containers(Some(options)).await.unwrap() {
        let labels = container.labels.unwrap_or_default();
        let owner = labels.get(label::OWNER).map(String::as_str).unwrap_or_default();
        let names = container.names.unwrap_or_default();
        let is_it = owner.split(':').nth(3) == Some(&launcher.to_string());
        if is_it && names.iter().any(|name| name.ends_with(role)) {
            let id = container.id.unwrap();
            found.push(
                docker.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap(),
            );
        }
    }
    found
}

/// What a command in a container says.
async fn told(private: &Private, container: &str, command: &[&str]) -> String {
    let docker = private.client.docker();
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.iter().map(ToString::to_string).collect()),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(container, options).await.unwrap();
    let StartExecResults::Attached { mut output, .. } =
        docker.start_exec(&exec.id, None).await.unwrap()
    else {
        unreachable!("it was asked to be attached")
    };
    let mut told = Vec::new();
    while let Some(portion) = output.next().await {
        told.extend_from_slice(&portion.unwrap().into_bytes());
    }
    String::from_utf8(told).unwrap()
}

fn pipelock_of_the_image_is_the_one_way_out() {
    let (on, private) = engine();
    let project = Project::on(on, &bundled(&["pipelock", "egress", "supervise"]));
    let nonces: Vec<_> = (0..2).map(|_| Nonce::from_bits(rand::random())).collect();
    let [allowed, denied] = &nonces[..] else { unreachable!("there are two") };
    let script = format!(
        "wget -q -O - http://allowed.test/{allowed}
         wget -q -O - http://denied.test/{denied} 2>&1
         proxy=${{http_proxy#http://}} at=${{proxy%:*}}
         [ \"$HTTP_PROXY$HTTPS_PROXY$https_proxy\" = \"$http_proxy$http_proxy$http_proxy\" ] && echo same ${{proxy#*:}}
         for name in pipelock egress gitleaks supervise; do
           nslookup -type=a $name | grep -q \"^Address: $at\\$\" && echo $name
         done
         printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc $at 8888 | head -n 1
         nc $at 9099 </dev/null 2>&1"
    );
    let output = project.start(&["--", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 9, "{out} {said}");
    assert_eq!(lines[0], allowed.to_string(), "{said}");
    assert!(lines[1].contains("403"), "{out}");
    assert_eq!(lines[2..7], ["same 8888", "pipelock", "egress", "gitleaks", "supervise"], "{out}");
    // Who is no proxy's client is answered as well; the other daemon is on the bundle's own loopback.
    assert!(lines[7].starts_with("HTTP/1.1 4"), "{out}");
    assert!(lines[8].contains("refused"), "{out}");
    assert!(said.contains("refused: denied.test:80: the host is not allowed\n"), "{said}");
    let log = private.runtime.block_on(async { private.engine.witness().drain().await });
    assert!(log.reached(allowed, WEB_LISTENER).is_some());
    assert!(!log.seen.contains_key(denied));
}

fn its_daemons_get_what_the_plan_says_and_no_more() {
    let (on, private) = engine();
    let build =
        bundled(&["pipelock", "egress"]).bottle("env", json!({ "T": { "from": "SECRET" } }));
    let project = Project::on(on, &build);
    let mut dry = project.start(&[&["--dry-run", "--format", "json"], &WAITS[..]].concat());
    let plan: Value =
        serde_json::from_str(&text(&dry.env("SECRET", "").output().unwrap())).unwrap();
    assert_eq!(plan["outline"]["files"][0]["path"], "/run/bottle/pipelock.yaml");
    let mut waiting = Waiting::start(&project);
    private.runtime.block_on(async {
        let all = containers(private, waiting.child.id(), "-bundle").await;
        let [bundle] = &all[..] else { panic!("one bundle: {all:?}") };
        let id = bundle.id.as_ref().unwrap();
        let yaml = told(private, id, &["cat", "/run/bottle/pipelock.yaml"]).await;
        assert_eq!(yaml, plan["outline"]["files"][0]["text"]);
        // Here it answers: that it does not do so for the agent is no accident.
        let inside = ["wget", "-q", "-O", "-", "http://127.0.0.1:9099/pipelock.yaml"];
        assert_eq!(told(private, id, &inside).await, yaml);
        let status = told(private, id, &["/bottle/toolbox", "supervise", "status"]).await;
        let status: Status = serde_json::from_str(&status).unwrap();
        assert_eq!(status.version, VERSION, "not that of the image");
        let names: Vec<_> = status.daemons.iter().map(|daemon| daemon.name.as_str()).collect();
        assert!(status.all_run() && names == ["pipelock", "egress"], "{status:?}");
        assert_eq!(told(private, id, &["id", "-u"]).await, "1000\n");

        let host = bundle.host_config.as_ref().unwrap();
        let of_the_host: Vec<_> =
            host.binds.iter().flatten().filter(|bind| bind.starts_with('/')).collect();
        assert!(
            of_the_host.is_empty() && host.mounts.as_ref().is_none_or(Vec::is_empty),
            "{host:?}"
        );
        assert_eq!((host.readonly_rootfs, &host.cap_add), (Some(true), &None));
        for container in
            [all.clone(), containers(private, waiting.child.id(), "-agent").await].concat()
        {
            assert!(!format!("{container:?}").contains("hunter2"), "{container:?}");
        }
    });
    assert_eq!(waiting.end(), "", "nothing was refused, and nothing ended");
}

fn what_the_agent_has_is_looked_through() {
    let (on, _) = engine();
    let build = bundled(&["pipelock", "gitleaks"])
        .bottle("mounts", json!([{ "source": ".", "target": "/work", "writable": true }]));
    let project = Project::on(on, &build);
    let script = "echo hunter2 >/home/agent/a; echo hunter2 >/work/b; echo hunter2 >/tmp/c; env | grep -c -i proxy; sleep 2";
    let output = project.sh(script);
    // Offline the one that lets out is not run, and the other is.
    assert_eq!(text(&output), "0\n", "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let found = "gitleaks: a secret in /scanned/1/b\ngitleaks: a secret in /scanned/home/a\n";
    assert_eq!(said, found);
}

fn where_it_is_not_there_nothing_is_made() {
    // One on which nobody else makes anything meanwhile.
    let private: &'static Private = Box::leak(Box::new(Private::start()));
    let on = On::Docker(private);
    load(private);
    // The toolbox's image is there from then on.
    let first = Project::on(on, &Build::new());
    text(&first.sh("exit 0"));
    let before = private.runtime.block_on(counted(&private.client));
    let image = |image: &str| {
        let project = Project::on(on, &bundled(&["pipelock"]).bottle("bundle-image", json!(image)));
        let output = project.start(&["--", "sh", "-c", "echo ran"]).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = image("localhost/absent:1");
    let expected = "the engine has no image \"localhost/absent:1\", which the manifest names as `bundle-image`";
    assert!(said.contains(expected), "{said}");
    // The agent's own image has no pipelock.
    let said = image(IMAGE);
    let expected = format!(
        "the daemon pipelock does not run in the bundle, of the image {IMAGE}: cannot start /pipelock: No such file or directory\n"
    );
    assert!(said.contains(&expected), "{said}");
    let broken = bundled(&["egress", "pipelock"]).bottle("egress", json!(["broken.test"]));
    let output = Project::on(on, &broken).start(&["--", "sh", "-c", "echo ran"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("exited with code 3: no such host: broken.test\n"), "{said}");
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(private.runtime.block_on(counted(&private.client)), before);
    private.runtime.block_on(private.engine.end()).unwrap();
}

fn a_daemon_that_dies_is_told_of() {
    let (on, private) = engine();
    let project = Project::on(on, &bundled(&["pipelock"]));
    let mut waiting = Waiting::start(&project);
    private.runtime.block_on(async {
        let all = containers(private, waiting.child.id(), "-bundle").await;
        let id = all[0].id.as_ref().unwrap();
        let status = async || {
            let status = told(private, id, &["/bottle/toolbox", "supervise", "status"]).await;
            serde_json::from_str::<Status>(&status).unwrap().daemons.remove(0)
        };
        let killed = status().await.pid.unwrap().to_string();
        told(private, id, &["kill", "-9", &killed]).await;
        for _ in 0..100 {
            let daemon = status().await;
            if daemon.restarts == 1 && daemon.pid.is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let expected = "the daemon pipelock ended: killed by SIGKILL; it was started again, and nothing was let out meanwhile\n";
    assert_eq!(waiting.end(), expected);
}

/// Whoever wants what leaves to be looked through does not get less elsewhere.
fn no_other_backend_runs_something_else_instead() {
    let build = bundled(&["gitleaks", "pipelock"]).bottle("image", json!(IMAGE));
    let project = Project::new(&build);
    let refused = |arguments: &[&str]| {
        let output = project.start(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for backend in ["namespace", "smolmachines"] {
        for arguments in [&["--dry-run"][..], &["--", "sh", "-c", "echo ran"]] {
            let said = refused(&[&["--backend", backend], arguments].concat());
            let expected = format!(
                "{backend} runs no daemon but `gateway`, and the manifest selects gitleaks, pipelock for the bottle `box`: start it \
                 with --backend docker"
            );
            assert!(said.contains(&expected), "{said}");
        }
    }
    assert!(refused(&["--offline", "--dry-run"]).contains("the manifest selects gitleaks for"));
    // Nothing serves what may be reached.
    let nobody = Project::new(&bundled(&["gitleaks"]).bottle("image", json!(IMAGE)));
    for backend in ["namespace", "docker", "smolmachines"] {
        let output = nobody.start(&["--dry-run", "--backend", backend]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("of its daemons (gitleaks) none lets it out"), "{said}");
        assert_eq!(output.status.code(), Some(2));
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        pipelock_of_the_image_is_the_one_way_out,
        its_daemons_get_what_the_plan_says_and_no_more,
        what_the_agent_has_is_looked_through,
        where_it_is_not_there_nothing_is_made,
        a_daemon_that_dies_is_told_of,
        no_other_backend_runs_something_else_instead,
    ]
}
