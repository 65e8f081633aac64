//! Where the toolbox is put, for a sandbox to be shown it.

use std::io;
use std::path::{Path, PathBuf};

use super::command::FILE;
use crate::sys;

/// The folders for temporary files.
pub(super) fn temporary() -> [PathBuf; 3] {
    [std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()]
}

/// The toolbox in a folder of its own, for every user to read and to execute: a sandbox may run as any.
pub(super) fn place(
    bytes: &[u8],
    places: impl IntoIterator<Item = PathBuf>,
) -> io::Result<tempfile::TempDir> {
    let folder = executable_from(places, sys::is_noexec)?;
    let file = folder.path().join(FILE);
    std::fs::write(&file, bytes)?;
    std::fs::set_permissions(&file, for_everybody())?;
    Ok(folder)
}

/// A folder of its own below the first of `places` that can be written to and is not mounted `noexec`.
fn executable_from(
    places: impl IntoIterator<Item = PathBuf>,
    is_noexec: impl Fn(&Path) -> bool,
) -> io::Result<tempfile::TempDir> {
    let mut last = io::Error::other("no folder to try");
    for place in places {
        if is_noexec(&place) {
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
pub(super) fn in_sight(place: &Path) -> io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("claude-bottle-").tempdir_in(place)?;
    std::fs::set_permissions(folder.path(), for_everybody())?;
    Ok(folder)
}

fn for_everybody() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_from_which_nothing_can_be_executed_is_passed_over() {
        let [noexec, good] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let is_noexec = |place: &Path| place == noexec.path();
        let places = ["/no/such".into(), noexec.path().into(), good.path().into()];
        let folder = executable_from(places, is_noexec).unwrap();
        assert!(folder.path().starts_with(good.path()), "{folder:?}");
        let error = executable_from([noexec.path().into()], is_noexec).unwrap_err().to_string();
        assert_eq!(error, format!("{} is mounted noexec", noexec.path().display()));
    }
}
