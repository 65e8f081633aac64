//! A sandbox of another make, and the witnesses on this machine around it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::prober::{Batch, Fuse};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::command::{FILE, SandboxCommand};
use super::sandbox::Sandbox;
use super::witness::{self, Posted};
use super::{Arena, LaunchError, NAME};
use crate::bottle::Bottle;
use crate::lab::{Answers, Fixture, Inbound, LabError, Observation, Sites, View, Witness};
use crate::teardown::TeardownError;
use crate::toolbox;

/// A sandbox under test.
pub(super) struct ExternalArena {
    sandbox: Sandbox,
    lab: Here,
    /// Holds the toolbox; gone with this.
    folder: tempfile::TempDir,
    /// Holds the socket with a path: not beside the toolbox, whose folder a sandbox may be shown because of `{dir}`.
    sockets: tempfile::TempDir,
}

/// This machine as the lab.
struct Here {
    posted: Posted,
    toolbox: PathBuf,
}

impl ExternalArena {
    pub(super) async fn launch(
        command: &SandboxCommand,
        patience: Duration,
    ) -> Result<Self, LaunchError> {
        let failed = |step: &str, source: Box<dyn std::error::Error + Send + Sync>| LaunchError {
            backend: NAME,
            step: step.to_owned(),
            source,
        };
        let bytes =
            toolbox::bytes().map_err(|error| failed("there is no toolbox", error.into()))?;
        let folder = place(&bytes)
            .map_err(|error| failed("the toolbox cannot be put on disk", error.into()))?;
        let toolbox = folder.path().join(FILE);
        let sockets = in_sight(&std::env::temp_dir())
            .map_err(|error| failed("there is no folder for a socket", error.into()))?;
        let posted = witness::post(&toolbox, sockets.path())
            .await
            .map_err(|error| failed("the witness does not listen", error.into()))?;
        let sandbox =
            Sandbox::open(command, folder.path(), &bytes, patience).await.map_err(|error| {
                failed("the command brings no toolbox into a sandbox", error.into())
            })?;
        Ok(Self { sandbox, lab: Here { posted, toolbox }, folder, sockets })
    }
}

/// The toolbox in a folder of its own, for every user to read and to execute: a sandbox may run as any.
fn place(bytes: &[u8]) -> io::Result<tempfile::TempDir> {
    let folder = executable_from([std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()])?;
    let file = folder.path().join(FILE);
    std::fs::write(&file, bytes)?;
    std::fs::set_permissions(&file, for_everybody())?;
    Ok(folder)
}

/// A folder of its own below the first of `places` that can be written to and is not mounted `noexec`.
fn executable_from(places: impl IntoIterator<Item = PathBuf>) -> io::Result<tempfile::TempDir> {
    let mut last = io::Error::other("no folder to try");
    for place in places {
        let noexec = statvfs(&place).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC));
        if noexec {
            last = io::Error::other(format!("{} is mounted noexec", place.display()));
            continue;
        }
        match in_sight(&place) {
            Ok(folder) => return Ok(folder),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A folder of its own below `place`, which every user may enter.
fn in_sight(place: &Path) -> io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("claude-bottle-").tempdir_in(place)?;
    std::fs::set_permissions(folder.path(), for_everybody())?;
    Ok(folder)
}

fn for_everybody() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

#[async_trait]
impl Arena for ExternalArena {
    fn bottle(&self) -> &dyn Bottle {
        &self.sandbox
    }

    fn lab(&self) -> &dyn Fixture {
        &self.lab
    }

    fn way_in(&self) -> String {
        "the command that was given leads into it".into()
    }

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        let Self { sandbox, lab, folder, sockets } = *self;
        let ended = sandbox.end().await;
        drop((sandbox, lab));
        let ended = [
            ("the command", ended),
            ("the toolbox's folder", folder.close()),
            ("the socket's folder", sockets.close()),
        ];
        let failed =
            ended.into_iter().filter_map(|(what, done)| Some((what.into(), done.err()?.into())));
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(TeardownError(failed)) }
    }
}

#[async_trait]
impl Fixture for Here {
    fn sites(&self) -> &Sites {
        &self.posted.sites
    }

    fn witness(&self) -> &Witness {
        &self.posted.witness
    }

    fn fuse(&self) -> Fuse {
        self.posted.fuse.clone()
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        let batch = Batch { fuse: self.fuse(), ..batch.clone() };
        let answers = witness::control(Path::new(&self.toolbox), &batch).await;
        answers.map_err(|source| LabError::Control { place: place.to_owned(), source })
    }

    async fn observe(&self, _: View) -> Result<Option<Observation>, LabError> {
        Ok(None)
    }

    fn inbound(&self) -> Option<Inbound> {
        None
    }

    fn has_real_bridge(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_from_which_nothing_can_be_executed_is_passed_over() {
        let good = std::env::temp_dir();
        let folder = executable_from(["/no/such".into(), good.clone()]).unwrap();
        assert!(folder.path().starts_with(&good));
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let noexec = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let place = PathBuf::from(fields.next()?);
            let options = fields.nth(1)?;
            (place.is_dir() && options.split(',').any(|option| option == "noexec")).then_some(place)
        });
        let Some(noexec) = noexec else {
            return eprintln!("skipped: nothing is mounted noexec here");
        };
        let error = executable_from([noexec]).unwrap_err().to_string();
        assert!(error.contains("noexec"), "{error}");
    }
}
