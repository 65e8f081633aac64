//! Unpacks a tar stream.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path};
use std::process::ExitCode;

use tar::{Archive, EntryType};

/// `unpack DEST`: unpacks the tar stream on standard input into the folder DEST, which is made if it is missing.
///
/// Permission bits and times are kept; owners and the setuid, setgid and sticky bits are not: the one who made
/// the stream is somebody else in here. Symbolic links are kept as such. Nothing is written outside of DEST: an entry
/// whose path has a `..`, or leads through a link that points out of it, is an error.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [dest] = arguments else {
        eprintln!("toolbox: unpack DEST");
        return ExitCode::from(2);
    };
    match unpack(io::stdin().lock(), Path::new(dest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toolbox: unpack: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn unpack(stream: impl Read, dest: &Path) -> io::Result<()> {
    let dest = fs::create_dir_all(dest).and_then(|()| dest.canonicalize()).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot make {}: {error}", dest.display()))
    })?;
    let mut archive = Archive::new(stream);
    // A folder gets its mode when everything in it is there: it may be one that nobody can write to.
    let mut folders = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.components().any(|part| part == Component::ParentDir) {
            let message = format!("{} leads out of {}", path.display(), dest.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if entry.header().entry_type() == EntryType::Directory {
            folders.push((path, entry));
        } else {
            entry.unpack_in(&dest)?;
        }
    }
    // Inner ones first, for the same reason.
    folders.sort_by(|(a, _), (b, _)| b.cmp(a));
    for (_, mut folder) in folders {
        folder.unpack_in(&dest)?;
    }
    Ok(())
}

/// The error and what is behind it. The tar crate hides the system's own word there.
fn chain(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
