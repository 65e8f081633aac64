//! What a bottle is shown of the host's files.

use std::fs;

use claude_bottle::backend::Backend as _;
use claude_bottle::backend::namespace::Namespace;
use libtest_mimic::Trial;

use crate::bottle::{exec, launch, sh, soon, text, with_programs};
use crate::trials::trials;

/// The new root is put together in such folders (`/tmp` is the first), and must not hide what it shows.
#[tokio::main(flavor = "current_thread")]
async fn folders_below_the_stage_of_the_new_root_are_shown_too() {
    let probe = launch().await;
    soon(probe.teardown()).await.unwrap();
    for parent in ["/tmp", "/run", "/dev/shm"] {
        let Ok(folder) = tempfile::tempdir_in(parent) else { continue };
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("below/file"), "shown").unwrap();
        fs::write(folder.path().join("alone"), "too").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let backend = with_programs(Namespace::default())
            .showing(path("below"), "/data")
            .showing(path("alone"), "/etc/alone");
        let arena = soon(backend.launch(None)).await.expect("a bottle");
        let script = "cat /data/file /etc/alone; touch /data/new 2>/dev/null || echo ' only'";
        assert_eq!(text(&exec(&*arena, sh(script)).await), "showntoo only", "{parent}");
        soon(arena.teardown()).await.unwrap();
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![folders_below_the_stage_of_the_new_root_are_shown_too,]
}
