//! Files that are copied in.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use libtest_mimic::Trial;

use crate::bottle::{exec, launch, sh, soon, text};
use crate::trials::trials;

#[tokio::main(flavor = "current_thread")]
async fn a_file_comes_with_its_mode() {
    let arena = launch().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tool");
    fs::write(&file, "#!/bin/sh\necho it runs\n").unwrap();
    for mode in [0o750, 0o4755] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        soon(arena.bottle().cp_in(&file, "/home/agent/new/folder/tool")).await.unwrap();
        let script = "cd /home/agent/new/folder && stat -c '%a %u' tool && ./tool";
        let told = text(&exec(&*arena, sh(script)).await);
        assert_eq!(told, format!("{:o} 1000\nit runs", mode & 0o777));
    }
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn a_folder_comes_whole() {
    let arena = launch().await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b/c"), vec![b'x'; 300_000]).unwrap();
    symlink("b/c", folder.path().join("a/link")).unwrap();
    soon(arena.bottle().cp_in(folder.path(), "/tmp/copy")).await.unwrap();
    let script = "cd /tmp/copy && find . | sort && wc -c < a/b/c && readlink a/link";
    let told = text(&exec(&*arena, sh(script)).await);
    assert_eq!(told, ".\n./a\n./a/b\n./a/b/c\n./a/link\n300000\nb/c");
    soon(arena.teardown()).await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn what_is_read_only_stays_as_it_is() {
    let arena = launch().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    for to in ["/etc/passwd", "/new", "/.bottle/toolbox", "/usr/new"] {
        let error = soon(arena.bottle().cp_in(&file, to)).await.unwrap_err();
        assert!(error.to_string().contains("Read-only file system"), "{to}: {error}");
    }
    soon(arena.teardown()).await.unwrap();
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![a_file_comes_with_its_mode, a_folder_comes_whole, what_is_read_only_stays_as_it_is,]
}
