//! Where the toolbox is put, for a sandbox to be shown it.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::command::FILE;

/// The folders for temporary files.
pub(super) fn temporary() -> [PathBuf; 3] {
    [std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()]
}

/// The toolbox in a folder of its own, for every user to read and to execute: a sandbox may run as any.
pub(super) fn place(
    bytes: &[u8],
    places: impl IntoIterator<Item = PathBuf>,
) -> io::Result<tempfile::TempDir> {
    let folder = executable_from(places)?;
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
