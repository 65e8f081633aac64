//! Launches that are killed, step by step: `cleanup` finds whatever there is of them.
//!
//! On a host that boots machines, with the real smolvm and the host's engine. Everywhere else, with a stand-in for smolvm and an engine
//! of its own: what is launched, labelled, listed and removed in which order is the launcher's doing, whatever smolvm makes of it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use claude_bottle::backend::smolmachines::launch::{LaunchFailed, Step};
use claude_bottle::bottle::{Bottle as _, Command as InBottle, End};
use libtest_mimic::Trial;

use crate::place::{LABELS, NO_LABELS, Place, STAND_IN, beside_a_stand_in, name};
use crate::trials::trials;

/// The variable that tells this program what to launch instead of running tests, and after which step to wait for its end.
pub(crate) const KILLED: &str = "CLAUDE_BOTTLE_TEST_KILLED";
const STEPS: [Step; 6] =
    [Step::Network, Step::Bundle, Step::Image, Step::Created, Step::Started, Step::Greeted];

impl Place {
    /// `ls` tells everything that is there, as of a launcher that runs, and `cleanup` leaves it alone.
    async fn is_told_and_kept(&self, name: &str, at: Step) {
        let row = self.row(name).expect("it is listed");
        let machines = row["machines"].as_array().unwrap().len();
        assert_eq!(row["owner"]["state"], "runs", "{at:?}: {row}");
        assert_eq!(machines, usize::from(at >= Step::Created), "{at:?}: {row}");
        // The second one is the way out.
        assert_eq!(row["networks"].as_array().unwrap().len(), 2, "{at:?}: {row}");
        let before = self.parts(name).await;
        assert!(self.claude_bottle(&["cleanup"]).status.success());
        assert_eq!(self.parts(name).await, before, "{at:?}");
    }

    /// A launcher is killed after each of its steps in turn; `cleanup` leaves nothing of what it made.
    async fn every_step(&self) {
        for step in STEPS {
            let name = name();
            let wanted = serde_json::to_string(&(self, &name, format!("{step:?}"))).unwrap();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .env(KILLED, wanted)
                .envs(&self.env)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut said =
                BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            assert!(said.any(|line| line.contains("reached")), "{step:?}");
            self.is_told_and_kept(&name, step).await;
            child.kill().unwrap();
            child.wait().unwrap();
            let row = self.row(&name).expect("it is listed");
            assert_eq!(row["owner"]["state"], "ended", "{step:?}: {row}");
            let cleaned = self.claude_bottle(&["cleanup"]);
            assert!(cleaned.status.success(), "{step:?}: {cleaned:?}");
            let told = String::from_utf8_lossy(&cleaned.stdout).into_owned();
            assert!(told.contains(&format!("removed {name}")), "{step:?}: {told}");
            assert_eq!(self.parts(&name).await, (0, false), "{step:?}: {told}");
        }
    }
}

#[tokio::main]
async fn of_a_launcher_that_is_killed_after_any_step_cleanup_leaves_nothing() {
    beside_a_stand_in(LABELS, async |place| place.every_step().await).await;
}

/// Without labels a machine is known by its bundle.
#[tokio::main]
async fn nor_with_a_release_that_has_no_labels() {
    beside_a_stand_in(NO_LABELS, async |place| place.every_step().await).await;
}

#[tokio::main]
async fn a_launch_that_is_given_up_leaves_nothing() {
    beside_a_stand_in(LABELS, async |place| {
        for step in STEPS {
            let name = name();
            let (sender, mut reached) = tokio::sync::mpsc::unbounded_channel();
            let done = move |step| sender.send(step).unwrap();
            let mut launching = Box::pin(place.launch(&name, &done));
            tokio::select! {
                // A launch that has ended is given up with its handle.
                launched = &mut launching => drop(launched.unwrap()),
                () = async { while reached.recv().await != Some(step) {} } => {}
            }
            drop(launching);
            assert_eq!(place.parts(&name).await, (0, false), "{step:?}");
        }
    })
    .await;
}

#[tokio::main]
async fn a_machine_that_does_not_come_up_is_stopped_before_it_is_started_again() {
    beside_a_stand_in(LABELS, async |place| {
        let once = PathBuf::from(&place.env[STAND_IN[0]]).with_file_name("does-not-come-up");
        std::fs::write(&once, "").unwrap();
        let launched = place.launch(&name(), &|_| {}).await.unwrap();
        assert!(!once.exists(), "it was started twice");
        launched.bottle.teardown().await.unwrap();
    })
    .await;
}

#[tokio::main]
async fn somebody_elses_machine_of_the_same_name_is_left_alone() {
    beside_a_stand_in(LABELS, async |place| {
        let name = name();
        let theirs = PathBuf::from(&place.env[STAND_IN[0]]).join(&name);
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(theirs.join("about"), format!(r#""name":"{name}","labels":{{}}"#)).unwrap();
        std::fs::write(theirs.join("state"), "running").unwrap();
        let error = place.launch(&name, &|_| {}).await.unwrap_err();
        assert!(matches!(error, LaunchFailed::Taken(_)), "{error}");
        assert_eq!(place.parts(&name).await, (0, true));
        // No bottle: neither listed nor removed.
        assert_eq!(place.row(&name), None);
        assert!(place.claude_bottle(&["cleanup"]).status.success());
        assert_eq!(place.parts(&name).await, (0, true));
    })
    .await;
}

#[tokio::main]
async fn a_smolvm_that_does_not_answer_is_told_and_the_engine_looked_at_all_the_same() {
    beside_a_stand_in("of today", async |place| {
        let listed = place.claude_bottle(&["ls"]);
        assert_eq!(listed.status.code(), Some(3), "{listed:?}");
        let said = String::from_utf8_lossy(&listed.stderr);
        assert!(said.contains("smolvm says of its version \"smolvm of today\""), "{said}");
        let told = String::from_utf8_lossy(&listed.stdout);
        assert!(told.contains("no bottles on the engine at"), "{told}");
    })
    .await;
}

#[tokio::main]
async fn where_no_engine_answers_machines_are_told_and_removed_all_the_same() {
    beside_a_stand_in(LABELS, async |place| {
        let name = name();
        let machine = PathBuf::from(&place.env[STAND_IN[0]]).join(&name);
        std::fs::create_dir(&machine).unwrap();
        let dead = Command::new("true").spawn().unwrap();
        let owner = owner_of_the_past(dead);
        let labels =
            format!(r#"{{"claude-bottle.bottle":"{name}","claude-bottle.owner":"{owner}"}}"#);
        std::fs::write(machine.join("about"), format!(r#""name":"{name}","labels":{labels}"#))
            .unwrap();
        std::fs::write(machine.join("state"), "running").unwrap();
        let alone = Place { socket: place.hatch.join("no-engine"), ..place.clone() };
        let cleaned = alone.claude_bottle(&["cleanup"]);
        assert_eq!(cleaned.status.code(), Some(3), "{cleaned:?}");
        let told = String::from_utf8_lossy(&cleaned.stdout).into_owned();
        assert!(told.contains(&format!("removed {name} (1 machine)")), "{told}");
        assert!(!machine.exists());
    })
    .await;
}

/// A launcher that has ended, as labels tell of it.
fn owner_of_the_past(mut process: std::process::Child) -> String {
    let this = claude_bottle::backend::docker::owner::Owner::this().unwrap().to_string();
    let mut parts: Vec<_> = this.split(':').map(str::to_owned).collect();
    parts[3] = process.id().to_string();
    process.wait().unwrap();
    parts.join(":")
}

/// On a host where machines boot.
#[tokio::main]
async fn of_the_real_smolvm_either() {
    let place = Place::real();
    let launched = place.launch(&name(), &|_| {}).await.unwrap();
    let bottle = &launched.bottle;
    let said = InBottle::new(bottle.toolbox()).args(["say", "out", "err", "42"]);
    let output = bottle.exec(said).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.end), (&b"out\n"[..], End::Code(42)));
    // A folder, with the bits that let its file be executed.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, claude_bottle::toolbox::bytes().unwrap()).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    bottle.cp_in(folder.path(), "/tmp/copied").await.unwrap();
    let said = InBottle::new("/tmp/copied/program").args(["say", "out", "err", "43"]);
    assert_eq!(bottle.exec(said).await.unwrap().end, End::Code(43));
    bottle.teardown().await.unwrap();
    place.every_step().await;
}

/// Launches what [`KILLED`] names, and waits for its end after the step that it names.
pub(crate) fn launcher(wanted: &str) {
    let (place, name, step): (Place, String, String) = serde_json::from_str(wanted).unwrap();
    let wait_there = |reached: Step| {
        if format!("{reached:?}") == step {
            println!("reached");
            loop {
                std::thread::park();
            }
        }
    };
    let runtime = claude_bottle::runtime::make().unwrap();
    let _ = runtime.block_on(place.launch(&name, &wait_there));
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        of_a_launcher_that_is_killed_after_any_step_cleanup_leaves_nothing,
        nor_with_a_release_that_has_no_labels,
        a_launch_that_is_given_up_leaves_nothing,
        a_machine_that_does_not_come_up_is_stopped_before_it_is_started_again,
        somebody_elses_machine_of_the_same_name_is_left_alone,
        a_smolvm_that_does_not_answer_is_told_and_the_engine_looked_at_all_the_same,
        where_no_engine_answers_machines_are_told_and_removed_all_the_same,
        of_the_real_smolvm_either,
    ]
}
