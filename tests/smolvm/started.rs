//! `claude-bottle start --backend smolmachines`, as a person would: on a host that boots machines for real, and everywhere else beside a
//! stand-in for smolvm, which isolates nothing.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use claude_bottle_protocol::Nonce;
use libtest_mimic::Trial;
use serde_json::json;

use crate::image::{self, IMAGE};
use crate::place::{LABELS, Place, STAND_IN, beside_a_stand_in};
use crate::site::Site;
use crate::trials::trials;

/// What is not in any argument.
const SECRET: &str = "hunter2-of-the-test";
/// An address that is on nobody's list.
const DENIED: &str = "192.0.2.9";

/// What the command does: waits for its turn, tells what it sees, asks by way of the gateway and past it.
const SCRIPT: &str = r#"
echo up
read -r site nonce
echo "token $TOKEN, home $HOME, in $PWD"
cat note
echo made >made
cd "$HOME/.claude/skills/skill"
stat -c '%a %n' . SKILL.md run.sh below below/deep
./run.sh
ask() { # HOST:PORT, what is dialled; HOST:PORT, of whom it is asked; PATH
  exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || return
  printf 'GET http://%s/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$3" "$2" >&3
  cat <&3
}
ask "${http_proxy#http://}" "$site" "$nonce"
ask "${http_proxy#http://}" 192.0.2.9:80 denied
(ask "$site" "$site" "past-$nonce") 2>/dev/null
exit 42
"#;

/// A folder as a person has it: a manifest, a skill, a folder to work in.
fn project(folder: &Path, site: &str) {
    let (host, port) = site.rsplit_once(':').unwrap();
    let file = |path: &str, content: &str, mode| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    let port: u16 = port.parse().unwrap();
    let bottle = json!({
        "image": IMAGE,
        "limits": { "memory-mib": 1024, "cpus": 1 },
        "mounts": [{ "source": "./work", "target": "/work", "writable": true }],
        "env": { "TOKEN": { "from": "SECRET" } },
        "egress": [{ "host": host, "ports": [port] }],
    });
    let agent = json!({ "bottle": "box", "command": ["bash"], "skills": ["./skill"] });
    let manifest = json!({ "bottles": { "box": bottle }, "agents": { "smith": agent } });
    file("claude-bottle.json", &manifest.to_string(), 0o644);
    file("skill/SKILL.md", "# A skill\n", 0o640);
    file("skill/run.sh", "#!/bin/bash\necho ran\n", 0o755);
    file("skill/below/deep", "", 0o600);
    file("work/note", "a note\n", 0o644);
    let mode = |path: &str, mode| {
        fs::set_permissions(folder.join(path), Permissions::from_mode(mode)).unwrap();
    };
    mode("skill", 0o750);
    mode("skill/below", 0o700);
    // The monitor of a machine that root starts is nobody in particular.
    mode("", 0o755);
    mode("work", 0o777);
}

/// `claude-bottle start smith …` in `folder`, its three streams piped.
fn start(place: &Place, folder: &Path, arguments: &[&str]) -> Child {
    let arguments = [&["start", "smith", "--backend", "smolmachines"], arguments].concat();
    let mut program: Command = place.on_host(&arguments);
    program.current_dir(folder).env("SECRET", SECRET);
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Launched, at work, seen by others, and gone.
async fn a_command_is_started(place: &Place) {
    let engine = place.engine().await;
    image::load(&engine).await;
    let site = Site::of(place).await;
    let address = site.address.to_string();
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), &address);
    let nonce = Nonce::from_bits(rand::random()).to_string();

    let mut child = start(place, folder.path(), &["--", "bash", "-c", SCRIPT]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let mut said = String::new();
    if line != "up\n" {
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        panic!("{line:?}: {said}");
    }
    // Whoever looks sees all of it as one bottle, and leaves it alone.
    let name = the_bottle(place).expect("it is listed");
    let row = place.row(&name).unwrap();
    assert_eq!(row["owner"]["state"], "runs", "{row}");
    for (kind, count) in [("machines", 1), ("containers", 1), ("networks", 2)] {
        assert_eq!(row[kind].as_array().map(Vec::len), Some(count), "{kind}: {row}");
    }
    assert!(place.claude_bottle(&["cleanup"]).status.success());
    assert_eq!(place.parts(&name).await, (1, true));

    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{address} {nonce}").unwrap();
    drop(input);
    let mut told = String::new();
    output.read_to_string(&mut told).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(42), "{told}{said}");

    let expected = format!("token {SECRET}, home /home/agent, in /work\na note\n");
    assert!(told.starts_with(&expected), "{told}{said}");
    let modes = "750 .\n640 SKILL.md\n755 run.sh\n700 below\n600 below/deep\nran\n";
    assert!(told.contains(modes), "{told}{said}");
    assert_eq!(fs::read_to_string(folder.path().join("work/made")).unwrap(), "made\n");
    // By way of the gateway, what the list has and nothing else.
    assert!(told.contains("welcome\n") && told.contains("403"), "{told}{said}");
    assert!(said.contains(&format!("refused: {DENIED}:80: ")), "{said}");
    let asked = site.asked();
    let by_gateway = |request: &&String| request.contains(&format!("/{nonce} "));
    assert_eq!(asked.iter().filter(by_gateway).count(), 1, "{asked:?}");
    if place.is_real() {
        assert_eq!(asked.len(), 1, "nothing comes there past the gateway: {asked:?}");
    } else {
        let asked = fs::read_to_string(Path::new(&place.env[STAND_IN[0]]).join("asked")).unwrap();
        assert!(asked.contains("--cpus 1 --mem 1024 "), "{asked}");
        assert!(!asked.contains(SECRET) && !asked.contains("exit 42"), "{asked}");
    }
    assert_eq!((the_bottle(place), place.parts(&name).await), (None, (0, false)));
    offline_there_is_no_network(place, folder.path());
    assert_eq!(the_bottle(place), None);
    image::remove(&engine).await;
}

/// Not even a resolver that answers. A program that is not there has its own code.
fn offline_there_is_no_network(place: &Place, folder: &Path) {
    let routes =
        "while read -r line; do echo \"$line\"; done </proc/net/route; echo \"[$http_proxy]\"";
    let child = start(place, folder, &["--offline", "--", "bash", "-c", routes]);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}{output:?}");
    assert!(told.ends_with("[]\n"), "no gateway is told of: {told}");
    if place.is_real() {
        assert_eq!(told.lines().count(), 2, "a heading, and no route: {told}");
    } else {
        let asked = fs::read_to_string(Path::new(&place.env[STAND_IN[0]]).join("asked")).unwrap();
        let created = asked.lines().rfind(|line| line.starts_with("machine create"));
        assert!(!created.unwrap().contains("--allow-cidr"), "{created:?}");
    }
    let child = start(place, folder, &["--offline", "--", "no-such-program"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(127), "{output:?}");
}

/// The name of the agent's bottle, if `ls` tells of one.
fn the_bottle(place: &Place) -> Option<String> {
    let listed = place.claude_bottle(&["ls", "--json"]);
    assert!(listed.status.success(), "{listed:?}");
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let names = listed["bottles"].as_array().unwrap().iter().filter_map(|row| row["name"].as_str());
    let mut names = names.filter(|name| name.starts_with("smith-"));
    names.next().map(str::to_owned)
}

#[tokio::main]
async fn beside_a_stand_in_a_command_is_started() {
    beside_a_stand_in(LABELS, async |place| Box::pin(a_command_is_started(place)).await).await;
}

#[tokio::main]
async fn on_the_real_smolvm_a_command_is_started() {
    a_command_is_started(&Place::real()).await;
}

/// What was made for it goes with a launcher that is asked to end.
#[tokio::main]
async fn beside_a_stand_in_whoever_is_asked_to_end_leaves_nothing() {
    beside_a_stand_in(LABELS, async |place| {
        image::load(&place.engine().await).await;
        let folder = tempfile::tempdir().unwrap();
        project(folder.path(), "192.0.2.1:80");
        let mut child = start(place, folder.path(), &["--", "bash", "-c", "echo up; read -r line"]);
        // Whoever waits for a child closes its input otherwise, whose end the shell might see first.
        let _input = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        let name = the_bottle(place).expect("it is listed");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        // Hung up upon, which ends a shell that reads.
        assert_eq!(child.wait().unwrap().code(), Some(129));
        assert_eq!((the_bottle(place), place.parts(&name).await), (None, (0, false)));
    })
    .await;
}

/// A release that drops allow-lists, and an image that is not there: told, and nothing is made.
#[tokio::main]
async fn beside_a_stand_in_what_cannot_be_started_is_told() {
    for (version, told) in [
        ("1.4.0", "drops `--allow-cidr`"),
        ("1.8.0", "copies no permission bits"),
        (LABELS, "the engine has no image"),
    ] {
        beside_a_stand_in(version, async |place| {
            let folder = tempfile::tempdir().unwrap();
            project(folder.path(), "192.0.2.1:80");
            let output = start(place, folder.path(), &[]).wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{said}");
            assert!(said.contains(told), "{said}");
            assert_eq!(the_bottle(place), None);
        })
        .await;
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        beside_a_stand_in_a_command_is_started,
        beside_a_stand_in_whoever_is_asked_to_end_leaves_nothing,
        beside_a_stand_in_what_cannot_be_started_is_told,
        on_the_real_smolvm_a_command_is_started,
    ]
}
