//! The toolbox's image: nothing but the toolbox and the gateway, built in memory, known by what is in it.

use std::fmt::Write as _;
use std::io;
use std::sync::OnceLock;

use bollard::body_full;
use bollard::query_parameters::BuildImageOptionsBuilder;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::engine::Engine;
use super::error::{DockerError, call, missing};
use super::plan::{AGENT, IN_IMAGE, label};
use super::way_out::GATEWAY;

/// The repository of the image's tags.
pub const REPOSITORY: &str = "claude-bottle/toolbox";

/// A toolbox, and the tag of its image.
#[derive(Debug)]
pub struct Image {
    context: Vec<u8>,
    tag: String,
}

impl Image {
    /// The image of this program's toolbox; hashed once per process.
    pub fn of_toolbox() -> Result<&'static Self, DockerError> {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        if let Some(image) = IMAGE.get() {
            return Ok(image);
        }
        let image = Self::of(&crate::toolbox::bytes()?, &crate::toolbox::gateway_bytes()?);
        Ok(IMAGE.get_or_init(|| image))
    }

    fn of(toolbox: &[u8], gateway: &[u8]) -> Self {
        let context = context(toolbox, gateway).expect("memory takes what is written to it");
        let hash = Sha256::digest(&context);
        let mut tag = format!("{REPOSITORY}:");
        for byte in hash.iter().take(8) {
            let _ = write!(tag, "{byte:02x}");
        }
        Self { context, tag }
    }

    /// Its tag; it holds a hash of all that is in the image.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Builds the image, if the engine does not have it. Several may do so at a time: what they make is the same.
    pub async fn ensure(&self, engine: &Engine) -> Result<(), DockerError> {
        match engine.docker.inspect_image(&self.tag).await {
            Ok(_) => return Ok(()),
            Err(error) if missing(&error) => {}
            Err(error) => return Err(call(format!("look for the image {}", self.tag))(error)),
        }
        let options = BuildImageOptionsBuilder::default()
            .dockerfile("Dockerfile")
            .t(&self.tag)
            .rm(true)
            .forcerm(true)
            .build();
        let body = body_full(self.context.clone().into());
        let mut building = Box::pin(engine.docker.build_image(options, None, Some(body)));
        while let Some(progress) = building.next().await {
            progress.map_err(call(format!("build the image {}", self.tag)))?;
        }
        Ok(())
    }
}

fn context(toolbox: &[u8], gateway: &[u8]) -> io::Result<Vec<u8>> {
    // An archive within the archive: unpacked by the engine, it keeps its owners.
    let mut root = Builder::new(Vec::new());
    for (path, mode, owner) in [
        ("bottle/", 0o755, 0),
        ("etc/", 0o755, 0),
        ("home/", 0o755, 0),
        ("home/agent/", 0o755, AGENT),
        ("run/", 0o755, 0),
        ("run/bottle/", 0o1777, 0),
        ("tmp/", 0o1777, 0),
    ] {
        let mut header = header(EntryType::Directory, mode, owner, 0);
        root.append_data(&mut header, path, io::empty())?;
    }
    let passwd = format!("agent:x:{AGENT}:{AGENT}:agent:/home/agent:/bin/sh\n");
    file(&mut root, "etc/passwd", 0o644, passwd.as_bytes())?;
    file(&mut root, "etc/group", 0o644, format!("agent:x:{AGENT}:\n").as_bytes())?;
    file(&mut root, "etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
    file(&mut root, IN_IMAGE.trim_start_matches('/'), 0o755, toolbox)?;
    file(&mut root, GATEWAY.trim_start_matches('/'), 0o755, gateway)?;
    let dockerfile = format!(
        "FROM scratch\nADD root.tar /\nUSER {AGENT}:{AGENT}\nENV HOME=/home/agent USER=agent\n\
         LABEL {}={}\nENTRYPOINT [\"{IN_IMAGE}\"]\n",
        label::TOOLBOX,
        env!("CARGO_PKG_VERSION"),
    );
    let mut context = Builder::new(Vec::new());
    file(&mut context, "Dockerfile", 0o644, dockerfile.as_bytes())?;
    file(&mut context, "root.tar", 0o644, &root.into_inner()?)?;
    context.into_inner()
}

fn header(kind: EntryType, mode: u32, owner: u64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    // The same every time, or the hash would not be.
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn file(archive: &mut Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = header(EntryType::Regular, mode, 0, content.len() as u64);
    archive.append_data(&mut header, path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_content() {
        let tag = |toolbox, gateway| Image::of(toolbox, gateway).tag().to_owned();
        assert_eq!(tag(b"one", b"1"), tag(b"one", b"1"));
        assert_ne!(tag(b"one", b"1"), tag(b"two", b"1"));
        assert_ne!(tag(b"one", b"1"), tag(b"one", b"2"));
    }
}
