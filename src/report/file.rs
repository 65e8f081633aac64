//! A report replaces its predecessor whole or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct WriteError {
    /// What was being done, such as `create the folder`.
    pub operation: &'static str,
    /// To which file or folder.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// The variable in which GitHub Actions, and Gitea's, name the file that a job's summary is appended to.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Appends what `markdown` makes to the summary of the CI job that this runs in, if it runs in one.
pub fn append_to_job_summary(markdown: impl FnOnce() -> String) -> Result<(), WriteError> {
    let Some(path) = std::env::var_os(STEP_SUMMARY).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let path = Path::new(&path);
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut summary| summary.write_all(markdown().as_bytes()))
        .map_err(failed("append a summary to", path))
}

/// Writes `bytes` to `path` by way of a file beside it: a reader sees the old report or the new one, and a full disk
/// leaves the old one. Folders that are missing are made; a symbolic link is followed.
///
/// A device or pipe such as `/dev/stdout` is written to as it is.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    replace(path, |file| file.write_all(bytes))
}

fn replace(
    path: &Path,
    write: impl FnOnce(&mut fs::File) -> io::Result<()>,
) -> Result<(), WriteError> {
    if is_stream(path) {
        return fs::OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut stream| write(&mut stream))
            .map_err(failed("write to", path));
    }
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed("create the folder", folder))?;

    let mut file = beside(folder).map_err(failed("create a file in", folder))?;
    // Some file systems tell only now that the disk is full.
    write(file.as_file_mut())
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed("write", path))?;
    file.persist(&target).map_err(|error| error.error).map_err(failed("replace", path))?;
    Ok(())
}

/// A new file that is gone again unless it is kept. As readable as any other: CI collects reports as another user.
fn beside(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The process' umask applies.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Whether there is something at `path` that can be written to, but not replaced. `/dev/stdout` is a regular file
/// where the shell redirects it to one, and must not be renamed over either.
fn is_stream(path: &Path) -> bool {
    let is_special = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    is_special || ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn folders_are_made_and_an_old_report_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/report.xml");
        write_atomic(&path, b"the old one, which is longer").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(path.parent().unwrap()), ["report.xml"]);
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_the_old_report_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.xml");
        write_atomic(&path, b"old").unwrap();
        let error = replace(&path, |file| {
            file.write_all(b"half of the ne")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["report.xml"]);
    }

    #[test]
    fn an_error_names_the_operation_and_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();

        let error = write_atomic(&file.join("report.xml"), b"").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot create the folder {}", file.display()));

        let error = write_atomic(folder.path(), b"").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot replace {}", folder.path().display()));
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_a_device_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("latest.xml");
        std::os::unix::fs::symlink("report.xml", &link).unwrap();
        fs::write(folder.path().join("report.xml"), "old").unwrap();
        write_atomic(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(folder.path().join("report.xml")).unwrap(), b"new");

        let device = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        write_atomic(&device, b"new").unwrap();
        assert!(!fs::metadata(&device).unwrap().is_file());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error() {
        let error = write_atomic(Path::new("/dev/full"), b"new").unwrap_err();
        assert_eq!(error.to_string(), "cannot write to /dev/full");
        assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
    }
}
