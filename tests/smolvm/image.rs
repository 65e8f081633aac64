//! An image with a shell, of programs that this host has.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use bollard::body_full;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use claude_bottle::backend::docker::Engine;
use futures_util::StreamExt as _;
use tar::{Builder, EntryType, Header};

/// Its name.
pub(crate) const IMAGE: &str = "localhost/claude-bottle-test:started";
/// bash, since it can dial by itself, and what the tests' scripts call.
const PROGRAMS: [&str; 5] = ["bash", "cat", "id", "stat", "true"];

/// Loads it.
pub(crate) async fn load(engine: &Engine) {
    let programs = PROGRAMS.map(|name| which::which(name).unwrap());
    let libraries: BTreeSet<_> = programs.iter().flat_map(libraries).collect();
    let mut root = Builder::new(Vec::new());
    for path in &libraries {
        root.append_path_with_name(path, path.strip_prefix("/").unwrap()).unwrap();
    }
    for (name, path) in PROGRAMS.iter().zip(&programs) {
        root.append_path_with_name(path, format!("bin/{name}")).unwrap();
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o1777);
    header.set_size(0);
    root.append_data(&mut header, "tmp/", std::io::empty()).unwrap();
    let root = body_full(root.into_inner().unwrap().into());
    let (repository, tag) = IMAGE.rsplit_once(':').unwrap();
    let options =
        CreateImageOptionsBuilder::default().from_src("-").repo(repository).tag(tag).build();
    let mut loading = engine.docker().create_image(Some(options), Some(root), None);
    while let Some(progress) = loading.next().await {
        progress.unwrap();
    }
}

/// Removes it.
pub(crate) async fn remove(engine: &Engine) {
    let options = RemoveImageOptionsBuilder::default().force(true).build();
    engine.docker().remove_image(IMAGE, Some(options), None).await.unwrap();
}

/// What a program is linked with, as `ldd` tells.
fn libraries(program: &PathBuf) -> Vec<PathBuf> {
    let told = Command::new("ldd").arg(program).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    told.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
