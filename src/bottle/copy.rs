//! Copies files and folders into a bottle: as a tar stream through the session, unpacked by the toolbox.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::error::said;
use super::{Bottle, BottleError, Command};

/// The stream's portions in bytes.
const PORTION: usize = 64 * 1024;
/// How many of them may wait.
const WAITING: usize = 4;
/// How much of what the unpacker says is read, in bytes per stream.
const SAID: u64 = 4096;

/// Copies `from` to `to`; see [`Bottle::cp_in`].
pub(super) async fn cp_in<B: Bottle + ?Sized>(
    bottle: &B,
    from: &Path,
    to: &str,
) -> Result<(), BottleError> {
    let (folder, name) = split(to).ok_or_else(|| BottleError::Destination { to: to.to_owned() })?;
    let unpack = Command::new(bottle.toolbox()).arg("unpack").arg(folder);
    let mut unpacking = bottle.start(unpack.stream_stdin().output_limit(SAID)).await?;
    let stdin = unpacking.take_stdin();

    let (sender, mut portions) = mpsc::channel::<Vec<u8>>(WAITING);
    let packing = tokio::task::spawn_blocking({
        let from = from.to_owned();
        move || pack(&from, name.as_deref(), Portions(sender))
    });
    let feeding = async {
        let Some(mut stdin) = stdin else { return };
        while let Some(portion) = portions.recv().await {
            // It has ended, and says why in its own way.
            if stdin.write(&portion).await.is_err() {
                break;
            }
        }
        // Lets the packing end, if it has not.
        drop(portions);
    };
    let ((), unpacked) = tokio::join!(feeding, unpacking.output());
    let unpacked = unpacked?;
    match packing.await {
        Ok(Err(Packing::Read { path, source })) => {
            return Err(BottleError::Read { path, source });
        }
        // Its reader has gone: the unpacker knows why.
        Ok(Ok(()) | Err(Packing::Write(_))) => {}
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
    if unpacked.end.is_success() {
        return Ok(());
    }
    Err(BottleError::CopyIn {
        from: from.to_owned(),
        to: to.to_owned(),
        end: unpacked.end,
        said: said(&unpacked.stderr),
    })
}

/// The folder that an absolute path lies in, and its name there; no name: the root itself.
fn split(to: &str) -> Option<(&str, Option<OsString>)> {
    let path = Path::new(to);
    let mut parts = path.components();
    let plain = parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !to.contains('\0');
    if !plain {
        return None;
    }
    let Some(name) = path.file_name() else {
        return Some(("/", None));
    };
    Some((path.parent()?.to_str()?, Some(name.to_owned())))
}

/// Why the stream could not be made.
#[derive(Debug)]
enum Packing {
    /// Something cannot be read.
    Read { path: PathBuf, source: io::Error },
    /// The stream cannot be written.
    Write(#[expect(dead_code, reason = "for whoever looks at it in a debugger")] io::Error),
}

/// Writes the tar stream of `from`, under this name in the archive; without one, of what is in the folder `from`.
fn pack(from: &Path, name: Option<&OsStr>, out: impl Write) -> Result<(), Packing> {
    let mut archive = Builder::new(BufWriter::with_capacity(PORTION, out));
    // What is left to do, the last one first.
    let mut left = vec![(from.to_owned(), name.map(PathBuf::from).unwrap_or_default())];
    while let Some((path, name)) = left.pop() {
        let read = |source| Packing::Read { path: path.clone(), source };
        let found = fs::symlink_metadata(&path).map_err(read)?;
        if found.is_dir() {
            let mut names: Vec<OsString> = fs::read_dir(&path)
                .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
                .map_err(read)?;
            folder(&mut archive, &found, &name).map_err(Packing::Write)?;
            // So that the first one comes next.
            names.sort_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
            left.extend(names.iter().map(|inner| (path.join(inner), name.join(inner))));
        } else if found.is_symlink() {
            let target = fs::read_link(&path).map_err(read)?;
            let mut header = header(&found, EntryType::Symlink, 0);
            archive.append_link(&mut header, &name, target).map_err(Packing::Write)?;
        } else if found.is_file() {
            let file = open(&path).map_err(read)?;
            file_entry(&mut archive, file, &path, &name)?;
        } else if path == from {
            let message = "neither a file, nor a link, nor a folder";
            return Err(read(io::Error::new(io::ErrorKind::InvalidInput, message)));
        }
    }
    let out = archive.into_inner().map_err(Packing::Write)?;
    out.into_inner()
        .map_err(|error| Packing::Write(error.into_error()))?
        .flush()
        .map_err(Packing::Write)
}

fn header(found: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(found);
    header.set_entry_type(kind);
    header.set_size(size);
    header
}

fn folder<W: Write>(archive: &mut Builder<W>, found: &Metadata, name: &Path) -> io::Result<()> {
    if name.as_os_str().is_empty() {
        return Ok(());
    }
    archive.append_data(&mut header(found, EntryType::Directory, 0), name, io::empty())
}

/// Opens a file, and nothing that somebody has put in its place meanwhile: no link, no pipe to wait for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Appends a file as long as it is now. One that shrinks meanwhile is an error: its entry could not be ended.
fn file_entry<W: Write>(
    archive: &mut Builder<W>,
    file: File,
    path: &Path,
    name: &Path,
) -> Result<(), Packing> {
    let read = |source| Packing::Read { path: path.to_owned(), source };
    let found = file.metadata().map_err(read)?;
    if !found.is_file() {
        return Err(read(io::Error::other("it is no file any more")));
    }
    let size = found.len();
    let mut content = Content { file: file.take(size), failed: None, done: 0 };
    let mut header = header(&found, EntryType::Regular, size);
    let appended = archive.append_data(&mut header, name, &mut content);
    if let Some(source) = content.failed {
        return Err(read(source));
    }
    appended.map_err(Packing::Write)?;
    if content.done < size {
        return Err(read(io::Error::other("it became shorter while it was copied")));
    }
    Ok(())
}

/// A file's content; tells a failing read from a failing write, which `tar` returns alike.
struct Content {
    file: io::Take<File>,
    failed: Option<io::Error>,
    done: u64,
}

impl Read for Content {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.file.read(into) {
            Ok(count) => {
                self.done += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Hands portions of the stream over to where it is sent.
struct Portions(mpsc::Sender<Vec<u8>>);

impl Write for Portions {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(bytes.to_vec());
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_an_absolute_path_without_detours() {
        for bad in ["", "a", "./a", "/a/../b", "..", "/..", "/a\0b"] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
        assert_eq!(split("/"), Some(("/", None)));
        assert_eq!(split("//"), Some(("/", None)));
        assert_eq!(split("/a"), Some(("/", Some("a".into()))));
        assert_eq!(split("/a/b c\n/d/"), Some(("/a/b c\n", Some("d".into()))));
    }

    #[test]
    fn a_folder_is_packed_in_order_and_by_the_given_name() {
        let top = tempfile::tempdir().unwrap();
        for name in ["b", "a", "a/z", "a/y"] {
            let path = top.path().join(name);
            if name.len() == 1 { fs::create_dir(path) } else { fs::write(path, name) }.unwrap();
        }
        std::os::unix::fs::symlink("/nowhere", top.path().join("c")).unwrap();
        let mut packed = Vec::new();
        pack(top.path(), Some(OsStr::new("top")), &mut packed).unwrap();
        let mut archive = tar::Archive::new(packed.as_slice());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let names: Vec<_> = entries.map(|entry| entry.path().unwrap().into_owned()).collect();
        assert_eq!(
            names,
            ["top", "top/a", "top/a/y", "top/a/z", "top/b", "top/c"].map(PathBuf::from)
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let top = tempfile::tempdir().unwrap();
        let missing = top.path().join("missing");
        let error = pack(&missing, Some(OsStr::new("x")), io::sink()).unwrap_err();
        assert!(matches!(error, Packing::Read { path, .. } if path == missing));
    }
}
