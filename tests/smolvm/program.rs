//! The real smolvm, of every version that `ci/smolvm.sh` has fetched: all that needs no machine to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use claude_bottle::backend::smolmachines::smolvm::arguments::{
    self, Create, Open, Size, Source, Streams, Volume,
};
use claude_bottle::backend::smolmachines::smolvm::reply::Ended;
use claude_bottle::backend::smolmachines::smolvm::run::{Here, Runs as _};
use claude_bottle::backend::smolmachines::smolvm::version::Version;
use claude_bottle::backend::smolmachines::smolvm::{Smolvm, SmolvmError};
use libtest_mimic::Trial;

use crate::trials::{skip, trials};

/// A smolvm without a network around it, whose state is in a folder of its own.
struct Fetched {
    version: Version,
    smolvm: Smolvm,
    program: PathBuf,
    here: Here,
    home: tempfile::TempDir,
}

impl Fetched {
    async fn at(program: PathBuf) -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name).display().to_string();
        let folders = ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"];
        let here = Here::default()
            .with_env(folders.map(|name| (name, at(name))))
            .with_env([("HOME", at("home"))])
            .by_way_of(UNSHARED);
        let smolvm = Smolvm::find(&program, Arc::new(here.clone())).await.unwrap();
        Self { version: smolvm.version(), smolvm, program, here, home }
    }

    /// A root file system, as the path that smolvm takes for one.
    fn root(&self) -> String {
        let root = self.home.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        root.display().to_string()
    }

    /// What it says when it is asked in these words.
    async fn said(&self, words: &[&str]) -> (i32, String) {
        let argv = [self.program.display().to_string()];
        let argv: Vec<_> = argv.into_iter().chain(words.iter().map(ToString::to_string)).collect();
        let ran = self.here.start(&argv, false).await.unwrap().collect().await.unwrap();
        let text = [ran.output, ran.error].concat();
        (ran.code, String::from_utf8_lossy(&text).into_owned())
    }
}

const UNSHARED: [&str; 3] = ["unshare", "--map-root-user", "--net"];

/// Those that are there; where there are none, the test is ignored.
async fn fetched() -> Vec<Fetched> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let unshares =
        std::process::Command::new(UNSHARED[0]).args(&UNSHARED[1..]).arg("true").status();
    if !unshares.is_ok_and(|status| status.success()) {
        skip("no net namespace can be made here, and smolvm is not run without one");
    }
    let mut found = Vec::new();
    for folder in fs::read_dir(target.join("smolvm")).into_iter().flatten().flatten() {
        let program = folder.path().join("smolvm");
        if program.is_file() {
            found.push(Fetched::at(program).await);
        }
    }
    if found.is_empty() {
        skip("no smolvm has been fetched (ci/smolvm.sh does, where pip can)");
    }
    found
}

fn create<'a>(name: &'a str, image: &'a str) -> Create<'a> {
    Create {
        name,
        from: Source::Image(image),
        allow: &[],
        env: &[],
        labels: &[],
        size: Size { processors: Some(1), memory: Some(512) },
        volumes: &[],
        open: None,
        ports: &[],
        workload: None,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn it_is_the_version_that_was_fetched() {
    for Fetched { version, program, .. } in fetched().await {
        let folder = program.parent().unwrap().file_name().unwrap();
        assert_eq!(folder.to_str(), Some(version.to_string().as_str()));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn a_machine_is_made_listed_and_deleted() {
    for fetched in fetched().await {
        let Fetched { version, smolvm, .. } = &fetched;
        assert_eq!(smolvm.machines().await.unwrap(), [], "{version}");
        let root = fetched.root();
        if !version.takes_archives() {
            continue;
        }
        let allow = ["10.210.0.2/32".parse().unwrap()];
        let shown = fetched.home.path().join("a project");
        fs::create_dir(&shown).unwrap();
        let volume = |target: &str, writable| Volume {
            source: shown.display().to_string(),
            target: target.to_owned(),
            writable,
        };
        let volumes = [volume("/work", true), volume("/notes", false)];
        let wanted = Create {
            allow: &allow,
            env: &[("NAME", "value=1")],
            labels: &[("claude-bottle.owner", "a:1:2:3")],
            volumes: &volumes,
            workload: Some("true"),
            ..create("m1", &root)
        };
        smolvm.create(&wanted).await.unwrap();
        let machine = smolvm.machine("m1").await.unwrap().expect("it is listed");
        assert_eq!((machine.state.as_str(), machine.network), ("created", true), "{version}");
        if version.has_labels() {
            let owner = machine.labels.get("claude-bottle.owner").map(String::as_str);
            assert_eq!(owner, Some("a:1:2:3"), "{version}");
        }
        let told = machine.allowed_cidrs.as_deref();
        assert!(told.is_none_or(|told| told == ["10.210.0.2/32"]), "{version}: {told:?}");
        assert!(told.is_some() || *version < Version::new(1, 32, 0), "{version} tells of none");

        let again = smolvm.create(&wanted).await.unwrap_err();
        assert!(matches!(again, SmolvmError::Refused { code: 1, .. }), "{version}: {again}");
        let (ended, _) = smolvm.exec("m1", &["/bin/true"]).await.unwrap();
        assert!(matches!(&ended, Ended::Smolvm(why) if why.contains("m1")), "{version}: {ended:?}");

        smolvm.delete("m1").await.unwrap();
        assert_eq!(smolvm.machines().await.unwrap(), [], "{version}");
        smolvm.delete("m1").await.unwrap();
    }
}

/// Without `--force` they ask, and what they do when nobody answers differs; none of them deletes.
#[tokio::main(flavor = "current_thread")]
async fn a_deletion_that_is_not_forced_deletes_nothing() {
    for fetched in fetched().await {
        let Fetched { version, smolvm, .. } = &fetched;
        let root = fetched.root();
        if !version.takes_archives() {
            continue;
        }
        smolvm.create(&create("m1", &root)).await.unwrap();
        let (code, said) = fetched.said(&["machine", "delete", "--name", "m1"]).await;
        let cancelled = code == 0 && said.contains("Cancelled");
        let refused = code == 1 && said.contains("--force");
        assert!(cancelled || refused, "{version}: {code}, {said}");
        assert!(smolvm.machine("m1").await.unwrap().is_some(), "{version}");
        smolvm.delete("m1").await.unwrap();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn what_is_no_pack_is_refused_with_smolvms_own_words() {
    for fetched in fetched().await {
        let Fetched { version, smolvm, home, .. } = &fetched;
        let pack = home.path().join("no.smolmachine");
        fs::write(&pack, "no pack").unwrap();
        let pack = pack.display().to_string();
        let wanted = Create { from: Source::Pack(&pack), ..create("m1", "") };
        let error = smolvm.create(&wanted).await.unwrap_err().to_string();
        assert!(
            error.contains("`smolvm machine create` ended with 1: Error: "),
            "{version}: {error}"
        );
        assert_eq!(smolvm.machines().await.unwrap(), [], "{version}");
    }
}

/// A stray argument of a family that has no such flag would be taken for something else.
#[tokio::main(flavor = "current_thread")]
async fn every_flag_that_is_given_is_known() {
    for fetched in fetched().await {
        let version = fetched.version;
        let open = Create { open: Some(Open::Own), ports: &[(18080, 80)], ..create("m1", "/none") };
        let plain = Create { open: Some(Open::PassedOn), ..open.clone() };
        let asked = [
            arguments::create(version, &open),
            arguments::create(version, &plain),
            arguments::copy_in(version, "m1", "/none", "/to", 0o755),
            arguments::exec("m1", Streams::Streamed, &["true"]),
            arguments::start("none"),
            arguments::stop("none"),
            arguments::delete(version, "none"),
        ];
        for arguments in asked {
            let words: Vec<_> = arguments.iter().map(String::as_str).collect();
            let (code, said) = fetched.said(&words).await;
            // 2 is wrong usage.
            assert_eq!(code, 1, "{version}: {words:?}: {said}");
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        it_is_the_version_that_was_fetched,
        a_machine_is_made_listed_and_deleted,
        a_deletion_that_is_not_forced_deletes_nothing,
        what_is_no_pack_is_refused_with_smolvms_own_words,
        every_flag_that_is_given_is_known,
    ]
}
