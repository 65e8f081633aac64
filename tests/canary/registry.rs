//! A real registry on loopback, and images in it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bollard::Docker;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use claude_bottle::toolbox;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;

use crate::trials::skip;

/// Debian's `docker-registry`, with a folder of its own, on a port that the kernel chose.
pub(crate) struct Registry {
    process: Child,
    folder: TempDir,
    pub(crate) port: u16,
}

impl Registry {
    /// Ends the test as ignored where the program is not installed.
    pub(crate) fn start() -> Self {
        let (Ok(program), Ok(setpriv)) = (which::which("docker-registry"), which::which("setpriv"))
        else {
            skip("needs docker-registry and setpriv on PATH");
        };
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let data = folder.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n  \
             delete: {{ enabled: true }}\nhttp: {{ addr: '127.0.0.1:0' }}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut process = Command::new(setpriv)
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let port = log.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        // Somebody must read on, or it stops at a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, folder, port: port.expect("the registry says where it listens") }
    }

    pub(crate) fn repository(&self) -> String {
        format!("127.0.0.1:{}/canary", self.port)
    }

    /// Overwrites what it keeps under this digest with as many other bytes.
    pub(crate) fn corrupt(&self, digest: &str) {
        let path = self.blob(digest);
        let length = fs::read(&path).unwrap().len();
        fs::write(&path, vec![b' '; length]).unwrap();
    }

    /// Has it keep this under that digest.
    pub(crate) fn replace(&self, digest: &str, other: &str) {
        fs::write(self.blob(digest), other).unwrap();
    }

    /// What it keeps under this digest.
    pub(crate) fn read(&self, digest: &str) -> String {
        fs::read_to_string(self.blob(digest)).unwrap()
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Builds an image from nothing but the toolbox and a file with this text, pushes it, and removes it from the engine.
/// Returns its digest.
pub(crate) async fn push(docker: &Docker, repository: &str, tag: &str, text: &str) -> String {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, Path::new(path), bytes).unwrap();
    };
    add("toolbox", 0o755, &toolbox::bytes().unwrap());
    add("text", 0o644, text.as_bytes());
    let dockerfile = "FROM scratch\nCOPY toolbox text /\nENTRYPOINT [\"/toolbox\"]\n";
    add("Dockerfile", 0o644, dockerfile.as_bytes());
    let tar = bollard::body_full(tar.into_inner().unwrap().into());
    let named = format!("{repository}:{tag}");
    let options = BuildImageOptionsBuilder::default().t(&named).rm(true).forcerm(true).build();
    let built: Vec<_> = docker.build_image(options, None, Some(tar)).try_collect().await.unwrap();
    assert!(!built.is_empty());
    let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
    docker.tag_image(&named, Some(options)).await.unwrap();
    let options = PushImageOptionsBuilder::default().tag(tag).build();
    let mut pushed = docker.push_image(repository, Some(options), None);
    while let Some(step) = pushed.next().await {
        step.unwrap();
    }
    let digests = docker.inspect_image(&named).await.unwrap().repo_digests.unwrap();
    let prefix = format!("{repository}@");
    let digest = digests.iter().find_map(|digest| digest.strip_prefix(&prefix)).unwrap().to_owned();
    docker.remove_image(&named, None::<RemoveImageOptions>, None).await.unwrap();
    digest
}
