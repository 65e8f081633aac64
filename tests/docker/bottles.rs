//! Bottles on a real engine: launched, killed, cleaned up.

use std::process::{Command as Process, Output, Stdio};

use claude_bottle::backend::docker::cleanup;
use claude_bottle::backend::docker::image::Image;
use claude_bottle::backend::docker::owner::Held;
use claude_bottle::backend::docker::plan::{Step, label};
use claude_bottle::backend::docker::private::{EngineError, PrivateEngine};
use claude_bottle::backend::docker::spec::{Mount, Serves};
use claude_bottle::backend::docker::{DockerError, Engine, Spec, launch};
use claude_bottle::bottle::{Bottle as _, Command, End};
use claude_bottle::host::{Endpoint, Host};
use claude_bottle_protocol::gateway::{Config, Limits};
use claude_bottle_protocol::helper::{Lab, Net};
use libtest_mimic::Trial;

use crate::trials::{skip, trials};
use crate::wait;

/// The variable that tells this program what bottle to launch instead of running tests, and after which step to wait for its end.
pub(crate) const KILLED: &str = "CLAUDE_BOTTLE_TEST_KILLED";

/// The engine of this host.
pub(crate) async fn engine() -> Engine {
    match Engine::of_host(&Host::detect()).await {
        Ok(engine) => engine,
        Err(DockerError::NoEngine(lack)) => skip(format!("needs docker: {lack}")),
        Err(error) => panic!("{error:?}"),
    }
}

fn spec(what: &str) -> Spec {
    Spec::new(format!("test-{what}-{:08x}", rand::random::<u32>()))
}

fn a_bottle_has_one_route_and_runs_commands() {
    wait(async {
        let engine = engine().await;
        let launched = Box::pin(launch(&engine, &spec("pair"), &|_| {})).await.unwrap();
        let toolbox = launched.bottle.toolbox().to_owned();
        let said = Command::new(&toolbox).args(["say", "out", "err", "126"]);
        let output = launched.bottle.exec(said).await.unwrap();
        assert_eq!((output.stdout.as_slice(), output.end), (&b"out\n"[..], End::Code(126)));
        let absent = launched.bottle.exec(Command::new("/absent")).await.unwrap();
        assert!(matches!(absent.end, End::NotStarted { .. }), "{:?}", absent.end);
        let table = std::fs::read_to_string(format!("/proc/{}/net/route", launched.agent.pid));
        assert_eq!(table.unwrap().lines().count(), 2, "a heading and one route");

        // A network that it is connected to brings another route: no command is run any more.
        let other = Box::pin(launch(&engine, &spec("other"), &|_| {})).await.unwrap();
        let request = bollard::models::NetworkConnectRequest {
            container: launched.agent.id.clone(),
            ..Default::default()
        };
        engine.docker().connect_network(&other.network, request).await.unwrap();
        let refused =
            launched.bottle.exec(Command::new(&toolbox).arg("version")).await.unwrap_err();
        let why = std::error::Error::source(&refused).unwrap().to_string();
        assert!(why.contains("there is another route"), "{why}");

        for bottle in [&launched.bottle, &other.bottle] {
            bottle.teardown().await.unwrap();
            assert_eq!(cleanup::find(&engine, Some(bottle.name())).await.unwrap(), []);
        }
    });
}

fn a_launch_that_is_given_up_leaves_nothing() {
    wait(async {
        let engine = engine().await;
        let spec = spec("dropped");
        let (sender, mut reached) = tokio::sync::mpsc::unbounded_channel();
        let done = move |step| sender.send(step).unwrap();
        tokio::select! {
            _ = launch(&engine, &spec, &done) => panic!("it was given up before its end"),
            () = async { while reached.recv().await != Some(Step::Bundle) {} } => {}
        }
        assert_eq!(cleanup::find(&engine, Some(&spec.name)).await.unwrap(), []);
    });
}

/// The program itself, asked for `arguments` about the engine of this host.
fn claude_bottle(arguments: &[&str]) -> Output {
    let mut program = Process::new(env!("CARGO_BIN_EXE_claude-bottle"));
    program.args(arguments).output().unwrap()
}

/// A bottle for which everything is made that is ever made: an agent of an image of its own, a container that pins, a second
/// network, a gateway with its way out.
fn with_everything(name: String, second_network: &str) -> Spec {
    let mut spec = Spec::new(name);
    spec.image = Some(Image::of_toolbox().unwrap().tag().to_owned());
    spec.holes.second_network = Some(second_network.to_owned());
    let (allow, limits) = (Vec::new(), Limits::default());
    let config = Config { allow, listen: None, resolver: None, limits };
    spec.bundle.serves = Some(Serves::Gateway(config));
    spec
}

/// An engine none of whose containers can be entered from here.
async fn engine_beyond_reach() -> Engine {
    Engine::connect(engine().await.endpoint(), "/nowhere").await.unwrap()
}

/// Which of all steps it is. A new one does not compile until it is here, and is walked.
fn number(step: Step) -> usize {
    match step {
        Step::Image => 0,
        Step::Network => 1,
        Step::WayOut => 2,
        Step::Home => 3,
        Step::Toolbox => 4,
        Step::Bundle => 5,
        Step::Agent => 6,
        Step::Pinner => 7,
        Step::BundleRuns => 8,
        Step::AgentRuns => 9,
        Step::Pinned => 10,
        Step::DaemonsRun => 11,
        Step::SecondNetwork => 12,
        Step::Greeted => 13,
    }
}

/// Every launch is killed after each of its plan's own steps in turn; `cleanup` then leaves nothing of it, and what is launched
/// beside it is left alone.
fn what_a_killed_launcher_left_is_listed_and_cleaned_up() {
    wait(async {
        let engine = engine_beyond_reach().await;
        let live = Box::pin(launch(&engine, &spec("live"), &|_| {})).await.unwrap();
        let whole = with_everything(spec("whole").name, &live.network);
        let whole = Box::pin(launch(&engine, &whole, &|_| {})).await.unwrap();
        whole.bottle.teardown().await.unwrap();
        let steps: Vec<_> = whole.plan.steps().collect();
        assert!(steps.iter().map(|step| number(*step)).eq(0..14), "{steps:?}");
        for step in steps {
            let name = spec("killed").name;
            let mut child = Process::new(std::env::current_exe().unwrap())
                .env(KILLED, format!("{name} {step:?} {}", live.network))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let output = std::io::BufReader::new(child.stdout.take().unwrap());
            let mut reached = std::io::BufRead::lines(output).map_while(Result::ok);
            assert!(reached.any(|line| line.contains("reached")), "{step:?}");
            // A launcher that lives is left alone.
            let found = cleanup::find(&engine, Some(&name)).await.unwrap();
            assert!(found.iter().all(|found| found.traces().held() == Held::Live), "{step:?}");
            assert!(!found.is_empty() || step == Step::Image, "{step:?}");
            child.kill().unwrap();
            child.wait().unwrap();
            // What it asked for last may still be on its way: `cleanup` is repeated until nothing more comes.
            let mut left = usize::MAX;
            for _ in 0..20 {
                let cleaned = claude_bottle(&["cleanup"]);
                // What others may have left, and cannot be removed, is no matter of this test.
                let told = String::from_utf8_lossy(&cleaned.stdout);
                assert!(!told.contains(&format!("cannot remove {name}")), "{step:?}: {told}");
                left = cleanup::find(&engine, Some(&name)).await.unwrap().len();
                if left == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                    left = cleanup::find(&engine, Some(&name)).await.unwrap().len();
                    if left == 0 {
                        break;
                    }
                }
            }
            assert_eq!(left, 0, "{step:?}");
        }
        let listed = claude_bottle(&["ls"]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        let row = listed.lines().find(|line| line.contains(live.bottle.name())).unwrap();
        assert!(row.contains(&format!("process {} runs", std::process::id())), "{row}");
        live.bottle.teardown().await.unwrap();
    });
}

fn what_somebody_else_holds_is_told_and_left_alone() {
    wait(async {
        let engine = engine().await;
        let name = spec("foreign").name;
        let labels = [(label::BOTTLE, name.as_str()), (label::OWNER, "machine:boot:1:2:3")];
        let request = bollard::models::NetworkCreateRequest {
            name: name.clone(),
            internal: Some(true),
            labels: Some(labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into()),
            ..Default::default()
        };
        let network = engine.docker().create_network(request).await.unwrap().id;
        let cleaned = claude_bottle(&["cleanup", "--dry-run"]);
        let cleaned = String::from_utf8(cleaned.stdout).unwrap();
        assert!(cleaned.contains(&format!("left alone {name}")), "{cleaned}");
        assert!(cleaned.contains("another machine"), "{cleaned}");
        claude_bottle(&["cleanup"]);
        let listed = claude_bottle(&["ls", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        let rows = listed["bottles"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name.as_str()).expect("it is still there");
        assert_eq!(row["owner"]["state"], "undecided");
        assert_eq!(row["networks"], serde_json::json!([network]));
        engine.remove_network(&network).await.unwrap();
    });
}

/// Programs of this machine, shown in a bottle.
fn programs() -> Vec<Mount> {
    let shown =
        [("/usr", "/usr"), ("/usr/bin", "/bin"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")];
    let there = shown.into_iter().filter(|(source, _)| std::path::Path::new(source).exists());
    let mount = |(source, target): (&str, &str)| Mount {
        source: source.to_owned(),
        target: target.to_owned(),
        writable: false,
    };
    there.map(mount).collect()
}

fn how_a_command_ended_is_told_apart_from_what_it_says() {
    wait(async {
        let engine = engine().await;
        let mut spec = spec("ends");
        spec.mounts = programs();
        spec.limits.memory = 64 << 20;
        let launched = Box::pin(launch(&engine, &spec, &|_| {})).await.unwrap();
        let bottle = &launched.bottle;
        let shell = |script: &str| bottle.exec(Command::new("/bin/sh").args(["-c", script]));
        // The command's own words, whatever Docker means by them.
        for code in [125, 126, 127, 137] {
            assert_eq!(shell(&format!("exit {code}")).await.unwrap().end, End::Code(code));
        }
        assert_eq!(shell("kill -KILL $$").await.unwrap().end, End::Signal(9));
        for (program, errno) in [("/absent", 2), ("/etc/passwd", 13)] {
            let ended = bottle.exec(Command::new(program)).await.unwrap().end;
            assert!(
                matches!(ended, End::NotStarted { errno: seen, .. } if seen == errno),
                "{ended:?}"
            );
        }
        // `tail` keeps what it reads until a line ends.
        let greedy = Command::new("/usr/bin/tail").arg("/dev/zero");
        let ended =
            bottle.exec(greedy.timeout(std::time::Duration::from_secs(60))).await.unwrap().end;
        assert_eq!(ended, End::OutOfMemory);
        // The bottle outlives it, and what ends by itself afterwards is told as before.
        assert_eq!(shell("kill -KILL $$").await.unwrap().end, End::Signal(9));
        assert_eq!(shell("exit 0").await.unwrap().end, End::Code(0));
        bottle.teardown().await.unwrap();
    });
}

/// Containers, images, networks and volumes.
async fn counted(engine: &Engine) -> [usize; 4] {
    let docker = engine.docker();
    let all = bollard::query_parameters::ListContainersOptionsBuilder::default().all(true).build();
    let images = bollard::query_parameters::ListImagesOptionsBuilder::default().all(true).build();
    [
        docker.list_containers(Some(all)).await.unwrap().len(),
        docker.list_images(Some(images)).await.unwrap().len(),
        docker.list_networks(None).await.unwrap().len(),
        docker
            .list_volumes(None::<bollard::query_parameters::ListVolumesOptions>)
            .await
            .unwrap()
            .volumes
            .unwrap_or_default()
            .len(),
    ]
}

/// On an engine of its own, where nobody else makes anything.
fn a_runtime_that_is_not_there_is_told_before_anything_is_made() {
    wait(async {
        let host = Net { name: "host".into(), ..Net::default() };
        let lab = Lab { nets: vec![host], ..Lab::default() };
        let private = match PrivateEngine::start(&lab, "host").await {
            Ok(engine) => engine,
            Err(why @ (EngineError::NotRoot | EngineError::NotInstalled)) => {
                skip(why);
            }
            Err(other) => panic!("{other}"),
        };
        let endpoint = Endpoint::Unix(private.socket());
        let proc = private.inside(std::path::Path::new("/proc"));
        let engine = Engine::connect(&endpoint, proc).await.unwrap();
        let before = counted(&engine).await;
        let mut spec = spec("runtime");
        spec.runtime = Some("runsc".to_owned());
        let error = Box::pin(launch(&engine, &spec, &|_| {})).await.unwrap_err().to_string();
        assert!(error.starts_with("the engine has no runtime \"runsc\"; it has "), "{error}");
        assert_eq!(counted(&engine).await, before);
        private.end().await.unwrap();
    });
}

fn bottles_that_are_launched_at_once_take_subnets_of_their_own() {
    wait(async {
        let engine = engine().await;
        let specs: Vec<_> = (0..8).map(|number| spec(&format!("at-once-{number}"))).collect();
        let all = specs.iter().map(|spec| Box::pin(launch(&engine, spec, &|_| {})));
        let launched = futures_util::future::join_all(all).await;
        let launched: Vec<_> = launched.into_iter().map(Result::unwrap).collect();
        let mut subnets: Vec<_> = launched.iter().map(|one| one.plan.subnet).collect();
        subnets.sort();
        subnets.dedup();
        assert_eq!(subnets.len(), 8);
        for one in &launched {
            let said = Command::new(one.bottle.toolbox()).args(["say", "out", "err", "0"]);
            assert_eq!(one.bottle.exec(said).await.unwrap().end, End::Code(0));
        }
        let torn_down = launched.iter().map(|one| one.bottle.teardown());
        for done in futures_util::future::join_all(torn_down).await {
            done.unwrap();
        }
        for spec in &specs {
            assert_eq!(cleanup::find(&engine, Some(&spec.name)).await.unwrap(), []);
        }
    });
}

fn without_an_engine_there_is_nothing_to_list() {
    let mut program = Process::new(env!("CARGO_BIN_EXE_claude-bottle"));
    let listed = program.args(["ls"]).env("DOCKER_HOST", "unix:///no/such.sock").output().unwrap();
    assert_eq!(listed.status.code(), Some(3));
    let said = String::from_utf8(listed.stderr).unwrap();
    assert!(said.contains("/no/such.sock does not exist"), "{said}");
}

/// Launches the bottle that [`KILLED`] names, and waits for its end after the step that it names.
pub(crate) fn launcher(wanted: &str) {
    let [name, step, network] = wanted.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{wanted:?}");
    };
    let wait_there = |reached: Step| {
        if format!("{reached:?}") == step {
            println!("reached");
            loop {
                std::thread::park();
            }
        }
    };
    wait(async {
        let spec = with_everything(name.to_owned(), network);
        let _ = Box::pin(launch(&engine_beyond_reach().await, &spec, &wait_there)).await;
    });
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_bottle_has_one_route_and_runs_commands,
        a_launch_that_is_given_up_leaves_nothing,
        what_a_killed_launcher_left_is_listed_and_cleaned_up,
        what_somebody_else_holds_is_told_and_left_alone,
        how_a_command_ended_is_told_apart_from_what_it_says,
        a_runtime_that_is_not_there_is_told_before_anything_is_made,
        bottles_that_are_launched_at_once_take_subnets_of_their_own,
        without_an_engine_there_is_nothing_to_list,
    ]
}
