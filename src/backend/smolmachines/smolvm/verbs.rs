//! What smolvm is asked: one method a verb, each with an end, none with a prompt, and none believed where another can tell.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::arguments::{self, Create, Streams};
use super::reply::{self, Ended, Machine, NotMachines, ended};
use super::run::{Ran, Runs, Started};
use super::version::{NoVersion, Version};
use crate::report::text::Untrusted;

/// How long a verb may take that starts nothing.
const BRIEF: Duration = Duration::from_secs(60);
/// How long a machine may take to start: smolvm gives up by itself long before, unless it is told otherwise.
const START: Duration = Duration::from_secs(300);
/// How long a pack may take: an image is pulled, and a machine started that unpacks it.
const PACK: Duration = Duration::from_secs(1200);
/// How much of what it complains of is told, in columns.
const TOLD: usize = 600;

/// Why smolvm did not do what it was asked.
#[derive(Debug, Error)]
pub enum SmolvmError {
    /// It cannot be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says no.
    #[error("`smolvm {verb}` ended with {code}: {said}")]
    Refused {
        /// What it was asked.
        verb: &'static str,
        /// Its exit code.
        code: i32,
        /// What it complains of.
        said: String,
    },
    /// It did not come to an end.
    #[error("`smolvm {verb}` did not end within {} s", patience.as_secs())]
    Silent {
        /// What it was asked.
        verb: &'static str,
        /// How long it was waited for.
        patience: Duration,
    },
    /// It tells another version than any that is known.
    #[error(transparent)]
    Version(#[from] NoVersion),
    /// Its list of machines cannot be read.
    #[error(transparent)]
    List(#[from] NotMachines),
    /// It says that it has deleted a machine, which is still there.
    #[error(
        "smolvm still has the machine {name} after it was deleted \
         (look with `smolvm machine ls`, and delete it with `smolvm machine delete --name {name} --force`)"
    )]
    Kept {
        /// The machine.
        name: String,
    },
}

/// The program smolvm, of a known version.
#[derive(Clone)]
pub struct Smolvm {
    program: PathBuf,
    runs: Arc<dyn Runs>,
    version: Version,
}

impl fmt::Debug for Smolvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program.display(), self.version)
    }
}

impl Smolvm {
    /// Asks `program`, run by `runs`, for its version.
    pub async fn find(program: &Path, runs: Arc<dyn Runs>) -> Result<Self, SmolvmError> {
        let program = program.to_owned();
        let unknown = Self { program, runs, version: Version::new(0, 0, 0) };
        let said = unknown.done("--version", vec!["--version".into()], BRIEF).await?;
        let version = String::from_utf8_lossy(&said.output).parse()?;
        Ok(Self { version, ..unknown })
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether its machines end with this process.
    pub fn ends_with_us(&self) -> bool {
        self.runs.ends_with_us()
    }

    /// Makes a machine, which does not run yet. A pack is unpacked for that.
    pub async fn create(&self, create: &Create<'_>) -> Result<(), SmolvmError> {
        let arguments = arguments::create(self.version, create);
        self.done("machine create", arguments, START).await.map(drop)
    }

    /// Starts a machine; one that runs already is started.
    pub async fn start(&self, name: &str) -> Result<(), SmolvmError> {
        self.done("machine start", arguments::start(name), START).await.map(drop)
    }

    /// Stops a machine; one that does not run is stopped.
    pub async fn stop(&self, name: &str) -> Result<(), SmolvmError> {
        self.done("machine stop", arguments::stop(name), BRIEF).await.map(drop)
    }

    /// The machines that there are.
    pub async fn machines(&self) -> Result<Vec<Machine>, SmolvmError> {
        let listed = self.done("machine ls", arguments::list(), BRIEF).await?;
        Ok(reply::machines(&listed.output)?)
    }

    /// The machine of this name, if there is one.
    pub async fn machine(&self, name: &str) -> Result<Option<Machine>, SmolvmError> {
        Ok(self.machines().await?.into_iter().find(|machine| machine.name == name))
    }

    /// Stops a machine and deletes it; one that is not there is deleted.
    ///
    /// Old releases delete a running machine's record alone and leave it running, so it is stopped first. Neither what it
    /// says nor its exit code counts, but that it is not listed any more.
    pub async fn delete(&self, name: &str) -> Result<(), SmolvmError> {
        if self.machine(name).await?.is_none() {
            return Ok(());
        }
        // One that does not run, or does not stop, is deleted all the same.
        let _ = self.stop(name).await;
        let arguments = arguments::delete(self.version, name);
        let deleted = self.asked("machine delete", arguments, false, BRIEF).await?;
        match self.machine(name).await? {
            None => Ok(()),
            Some(_) if deleted.code != 0 => Err(refused("machine delete", &deleted)),
            Some(_) => Err(SmolvmError::Kept { name: name.to_owned() }),
        }
    }

    /// Runs a command in a machine to its end, without input.
    pub async fn exec(&self, name: &str, command: &[&str]) -> Result<(Ended, Ran), SmolvmError> {
        let arguments = arguments::exec(name, Streams::Collected, command);
        let ran = self.asked("machine exec", arguments, false, START).await?;
        Ok((ended(ran.code, &ran.error), ran))
    }

    /// Starts a command in a machine, with its three streams.
    pub async fn open(&self, name: &str, command: &[&str]) -> Result<Started, SmolvmError> {
        self.started(arguments::exec(name, Streams::Streamed, command), true).await
    }

    /// Copies a file into a machine that runs, with these permission bits where the release can set them.
    pub async fn copy_in(
        &self,
        name: &str,
        from: &Path,
        to: &str,
        mode: u32,
    ) -> Result<(), SmolvmError> {
        let arguments = arguments::copy_in(self.version, name, &from.to_string_lossy(), to, mode);
        self.done("machine cp", arguments, START).await.map(drop)
    }

    /// Packs an image: a reference, or an archive where the release takes one. The pack is `output` with the suffix
    /// `.smolmachine`; beside it is a program, which nobody needs here.
    pub async fn pack(&self, image: &str, output: &Path) -> Result<(), SmolvmError> {
        let arguments = arguments::pack(image, &output.to_string_lossy());
        self.done("pack create", arguments, PACK).await.map(drop)
    }

    async fn done(
        &self,
        verb: &'static str,
        arguments: Vec<String>,
        patience: Duration,
    ) -> Result<Ran, SmolvmError> {
        let ran = self.asked(verb, arguments, false, patience).await?;
        if ran.code == 0 { Ok(ran) } else { Err(refused(verb, &ran)) }
    }

    async fn asked(
        &self,
        verb: &'static str,
        arguments: Vec<String>,
        input: bool,
        patience: Duration,
    ) -> Result<Ran, SmolvmError> {
        let started = self.started(arguments, input).await?;
        let collected = tokio::time::timeout(patience, started.collect()).await;
        let collected = collected.map_err(|_| SmolvmError::Silent { verb, patience })?;
        collected.map_err(|source| self.cannot_run(source))
    }

    async fn started(&self, arguments: Vec<String>, input: bool) -> Result<Started, SmolvmError> {
        let program = self.program.to_string_lossy().into_owned();
        let argv: Vec<_> = std::iter::once(program).chain(arguments).collect();
        self.runs.start(&argv, input).await.map_err(|source| self.cannot_run(source))
    }

    fn cannot_run(&self, source: std::io::Error) -> SmolvmError {
        SmolvmError::Run { program: self.program.clone(), source }
    }
}

/// What it says of a failure: progress and warnings come first, and the reason last.
fn refused(verb: &'static str, ran: &Ran) -> SmolvmError {
    let text = String::from_utf8_lossy(&ran.error);
    let text = text.rfind("Error: ").map_or(&*text, |reason| &text[reason..]);
    let said = Untrusted::new(text.trim()).one_line(TOLD);
    let said = if said.is_empty() { "it says nothing of it".to_owned() } else { said };
    SmolvmError::Refused { verb, code: ran.code, said }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::backend::smolmachines::smolvm::run::Here;

    /// A smolvm that is a shell script: `$FOLDER` is one of its own.
    async fn smolvm(script: &str) -> (tempfile::TempDir, Smolvm) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("smolvm");
        let version = "case $1 in --version) echo smolvm 1.32.2; exit;; esac";
        fs::write(
            &program,
            format!("#!/bin/sh\ncd {}\n{version}\n{script}\n", folder.path().display()),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        loop {
            match Smolvm::find(&program, Arc::new(Here::default())).await {
                // Another test's fork may hold the script open for writing for a moment.
                Err(SmolvmError::Run { source, .. })
                    if source.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                found => return (folder, found.unwrap()),
            }
        }
    }

    const LISTED: &str =
        r#"case "$2" in ls) echo '[{"name":"m1","state":"running"}]'; exit;; esac"#;

    #[tokio::test]
    async fn a_machine_that_is_listed_after_its_deletion_is_not_deleted() {
        let (_folder, liar) = smolvm(&format!("{LISTED}\necho Deleted machine: m1")).await;
        let error = liar.delete("m1").await.unwrap_err();
        assert!(matches!(error, SmolvmError::Kept { .. }), "{error}");
        liar.delete("m2").await.unwrap();
    }

    #[tokio::test]
    async fn whoever_cannot_delete_says_why() {
        let script = "echo 'Starting machine' >&2; echo 'Error: no' >&2; exit 1";
        let (_folder, honest) = smolvm(&format!("{LISTED}\n{script}")).await;
        let error = honest.delete("m1").await.unwrap_err().to_string();
        assert_eq!(error, "`smolvm machine delete` ended with 1: Error: no");
    }

    #[tokio::test]
    async fn a_machine_that_is_gone_is_deleted_whatever_is_said() {
        let script = r#"case "$2" in
            ls) if [ -e gone ]; then echo '[]'; else echo '[{"name":"m1","state":"running"}]'; fi;;
            stop) exit 1;;
            delete) : >gone; echo 'Error: vm not found: m1' >&2; exit 1;;
            esac"#;
        let (_folder, smolvm) = smolvm(script).await;
        smolvm.delete("m1").await.unwrap();
    }

    #[tokio::test]
    async fn nothing_that_is_asked_waits_at_a_prompt() {
        let script = r#"case "$2" in ls) echo '[]';; *) read answer; echo "$?" >&2; exit 3;; esac"#;
        let (_folder, smolvm) = smolvm(script).await;
        let error = smolvm.start("m1").await.unwrap_err().to_string();
        assert_eq!(error, "`smolvm machine start` ended with 3: 1");
    }
}
