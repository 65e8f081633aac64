//! Files and folders that are copied in.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use claude_bottle::bottle::{Bottle, BottleError};
use tar::{Builder, EntryType, Header};

use crate::bottle::{Open, TOOLBOX, soon};

fn write(path: &Path, content: &[u8], mode: u32) {
    // The last one may be read-only.
    let _ = fs::remove_file(path);
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

async fn copied(from: &Path, to: &Path) -> Result<(), BottleError> {
    soon(Open::new().await.cp_in(from, to.to_str().unwrap())).await
}

#[tokio::test]
async fn a_file_keeps_its_content_mode_and_time_and_its_folders_are_made() {
    let top = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    let (from, to) = (top.path().join("from"), top.path().join("new/deep/to"));
    for bits in [0o755, 0o600, 0o444] {
        write(&from, &content, bits);
        copied(&from, &to).await.unwrap();
        assert!(fs::read(&to).unwrap() == content);
        assert_eq!(mode(&to), bits, "the second one replaces the first");
        let times = [&from, &to].map(|path| fs::metadata(path).unwrap().mtime());
        assert_eq!(times[0], times[1]);
    }
    write(&from, b"", 0o4755);
    copied(&from, &to).await.unwrap();
    assert_eq!((fs::read(&to).unwrap(), mode(&to)), (Vec::new(), 0o755), "not setuid");
}

#[tokio::test]
async fn a_folder_is_copied_with_everything_in_it() {
    let top = tempfile::tempdir().unwrap();
    let from = top.path().join("from");
    let long = "long ".repeat(45);
    let names = ["plain", "with space", "with\nnewline", "-rf", "ü", long.as_str()];
    fs::create_dir_all(from.join("empty")).unwrap();
    fs::create_dir(from.join("closed")).unwrap();
    for name in names {
        write(&from.join(name), name.as_bytes(), 0o640);
        write(&from.join("closed").join(name), name.as_bytes(), 0o755);
    }
    symlink("plain", from.join("link")).unwrap();
    symlink("/no/where", from.join("broken")).unwrap();
    symlink(&long, from.join("long link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();

    let to = top.path().join("a b\nc");
    fs::create_dir(&to).unwrap();
    write(&to.join("kept"), b"kept", 0o600);
    copied(&from, &to).await.unwrap();
    for name in names {
        assert_eq!(fs::read(to.join(name)).unwrap(), name.as_bytes());
        assert_eq!(mode(&to.join(name)), 0o640);
        assert_eq!(mode(&to.join("closed").join(name)), 0o755);
    }
    assert_eq!(mode(&to.join("closed")), 0o555);
    assert_eq!(fs::read_dir(to.join("empty")).unwrap().count(), 0);
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("plain"));
    assert_eq!(fs::read_link(to.join("broken")).unwrap(), Path::new("/no/where"));
    assert_eq!(fs::read_link(to.join("long link")).unwrap(), Path::new(&long));
    assert!(fs::symlink_metadata(to.join("socket")).is_err());
    assert_eq!(fs::read(to.join("kept")).unwrap(), b"kept");
    // Whoever is no root could not remove them.
    for folder in [from, to] {
        fs::set_permissions(folder.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn a_link_is_copied_as_a_link() {
    let top = tempfile::tempdir().unwrap();
    let (from, to) = (top.path().join("from"), top.path().join("to"));
    symlink("/etc/passwd", &from).unwrap();
    copied(&from, &to).await.unwrap();
    assert_eq!(fs::read_link(&to).unwrap(), Path::new("/etc/passwd"));
}

#[tokio::test]
async fn what_cannot_be_copied_says_which_end_and_why() {
    let top = tempfile::tempdir().unwrap();
    let to = top.path().join("to");
    let missing = copied(&top.path().join("missing"), &to).await.unwrap_err();
    assert!(matches!(missing, BottleError::Read { .. }), "{missing}");
    let relative = copied(top.path(), Path::new("to")).await.unwrap_err();
    assert!(matches!(relative, BottleError::Destination { .. }), "{relative}");
    let pipe = copied(Path::new("/dev/null"), &to).await.unwrap_err();
    assert!(matches!(pipe, BottleError::Read { .. }), "{pipe}");

    // Longer than everything that could be on its way when the unpacker says no.
    let file = top.path().join("file");
    write(&file, &vec![0; 8 * 1024 * 1024], 0o600);
    let error = copied(&file, &file.join("below a file")).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BottleError::CopyIn { .. }), "{text}");
    let why = format!("exit code 1: toolbox: unpack: cannot make {}: ", file.display());
    assert!(text.contains(&why), "{text}");
}

/// Has the toolbox unpack these entries into a folder.
fn unpack(dest: &Path, entries: &[(&str, EntryType, &str)]) -> (Option<i32>, String) {
    let mut archive = Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        // By hand: the crate refuses to write such names.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        let link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if link { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, Cursor::new(content)).unwrap();
    }
    let mut unpacker = Command::new(&*TOOLBOX);
    unpacker.arg("unpack").arg(dest).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut unpacker = unpacker.spawn().unwrap();
    unpacker.stdin.take().unwrap().write_all(&archive.into_inner().unwrap()).unwrap();
    let output = unpacker.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn nothing_is_unpacked_outside_of_the_destination() {
    use EntryType::{Directory, Link, Regular, Symlink};
    let top = tempfile::tempdir().unwrap();
    let outside = top.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let outside = outside.to_str().unwrap();
    let secret = format!("{outside}/secret");
    let attacks: [&[(&str, EntryType, &str)]; 7] = [
        &[("../outside/evil", Regular, "evil")],
        &[("a/../../outside/evil", Regular, "evil")],
        &[("../outside/evil", Directory, "")],
        &[("link", Symlink, outside), ("link/evil", Regular, "evil")],
        &[("link", Symlink, outside), ("link/evil", Directory, "")],
        &[("link", Symlink, ".."), ("link/outside/evil", Regular, "evil")],
        &[("link", Link, &secret)],
    ];
    for (number, attack) in attacks.iter().enumerate() {
        let dest = top.path().join(format!("dest {number}"));
        let (code, said) = unpack(&dest, attack);
        assert_eq!(code, Some(1), "{attack:?}");
        assert!(said.starts_with("toolbox: unpack: "), "{said}");
    }
    // A link is replaced, not written through.
    let dest = top.path().join("replaced");
    let replaced = [("link", Symlink, secret.as_str()), ("link", Regular, "evil")];
    assert_eq!(unpack(&dest, &replaced), (Some(0), String::new()));
    assert_eq!(fs::read_to_string(dest.join("link")).unwrap(), "evil");
    // An absolute path is one below the destination.
    let absolute = format!("{outside}/evil");
    assert_eq!(unpack(&dest, &[(&absolute, Regular, "evil")]).0, Some(0));

    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
}
