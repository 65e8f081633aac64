//! The image of a machine, made ready for smolvm: from a registry, or from a Docker engine.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use thiserror::Error;

use super::cache::{Cache, CacheError, Key};
use super::smolvm::arguments::Source;
use super::smolvm::version::Version;
use super::smolvm::{Smolvm, SmolvmError};
use crate::backend::docker::Engine;

/// Where an image comes from.
#[derive(Debug, Clone)]
pub enum Image {
    /// A registry, which smolvm itself asks, such as `alpine:latest`.
    Registry(String),
    /// An engine that has it.
    Docker {
        /// The engine.
        engine: Box<Engine>,
        /// The image's tag or its id.
        reference: String,
        /// What is in it, where that is known better than by its id, which says when it was built as well.
        digest: Option<String>,
    },
}

/// Why an image is not ready.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// smolvm.
    #[error(transparent)]
    Smolvm(#[from] SmolvmError),
    /// The engine does not hand it out.
    #[error("cannot export the image {reference}")]
    Export {
        /// The image.
        reference: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The release of smolvm cannot take it.
    #[error(
        "smolvm {version} takes no image of a Docker engine: it knows registries alone (install smolvm {} or newer)",
        Version::TAKES_ARCHIVES
    )]
    NoArchives {
        /// The release.
        version: Version,
    },
    /// A file on its way.
    #[error("cannot hand {} over to smolvm", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A folder in which files are handed over to smolvm, which may see another file system.
#[derive(Debug, Clone)]
pub struct Hatch {
    /// The folder as this process sees it.
    pub here: PathBuf,
    /// The same folder as smolvm sees it.
    pub there: PathBuf,
}

impl Hatch {
    /// Hands a file over; where smolvm finds it.
    fn pass(&self, from: &Path, name: &str) -> Result<PathBuf, ImageError> {
        let to = self.here.join(name);
        let passed = std::fs::copy(from, &to).and_then(|_| open(&to));
        passed.map_err(|source| ImageError::File { path: to, source })?;
        Ok(self.there.join(name))
    }
}

/// Lets everybody read a file: the monitor is a user of its own.
fn open(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
}

/// An image that smolvm can make machines of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    path: PathBuf,
    is_pack: bool,
}

impl Ready {
    /// What `machine create` is told.
    pub fn source(&self) -> Source<'_> {
        let path = self.path.to_str().unwrap_or_default();
        if self.is_pack { Source::Pack(path) } else { Source::Image(path) }
    }
}

impl Image {
    /// Makes it ready, or finds it in `cache`; hands it over by `hatch`.
    ///
    /// A release that packs no archives makes machines of them all the same: then the archive is what is cached.
    pub async fn ready(
        &self,
        smolvm: &Smolvm,
        cache: &Cache,
        hatch: &Hatch,
    ) -> Result<Ready, ImageError> {
        let version = smolvm.version();
        let (made, is_pack) = match self {
            Self::Registry(reference) => {
                let make = async |path: &Path| pack(smolvm, reference, hatch, path).await;
                (cache.get(&Key::pack(reference, None, version), make).await?, true)
            }
            Self::Docker { .. } if !version.takes_archives() => {
                return Err(ImageError::NoArchives { version });
            }
            Self::Docker { engine, reference, digest } => {
                let digest = match digest {
                    Some(digest) => digest.clone(),
                    None => id(engine, reference).await?,
                };
                if version.packs_archives() {
                    let make = async |path: &Path| {
                        let archive = path.with_file_name("archive.tar");
                        export(engine, reference, &archive).await?;
                        let handed = hatch.pass(&archive, "archive.tar")?;
                        pack(smolvm, &handed.to_string_lossy(), hatch, path).await?;
                        let removed = std::fs::remove_file(&archive);
                        removed.map_err(|source| ImageError::File { path: archive, source })
                    };
                    let key = Key::pack(reference, Some(&digest), version);
                    (cache.get(&key, make).await?, true)
                } else {
                    let make = async |path: &Path| export(engine, reference, path).await;
                    let key = Key::archive(reference, &digest, version);
                    (cache.get(&key, make).await?, false)
                }
            }
        };
        let name = if is_pack { "image.smolmachine" } else { "image.tar" };
        Ok(Ready { path: hatch.pass(&made, name)?, is_pack })
    }
}

/// Packs `image` to `path`, by way of the hatch.
async fn pack(smolvm: &Smolvm, image: &str, hatch: &Hatch, path: &Path) -> Result<(), ImageError> {
    // It writes a program here, and the pack beside it.
    smolvm.pack(image, &hatch.there.join("packed")).await?;
    let packed = hatch.here.join("packed.smolmachine");
    let moved = std::fs::copy(&packed, path);
    moved.map_err(|source| ImageError::File { path: packed.clone(), source })?;
    for left in [packed, hatch.here.join("packed")] {
        // Memory, where the hatch is in memory.
        let _ = std::fs::remove_file(left);
    }
    Ok(())
}

/// The id of an image, which is a digest of all that is in it.
async fn id(engine: &Engine, reference: &str) -> Result<String, ImageError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ImageError::Export {
        reference: reference.to_owned(),
        source,
    };
    let found = engine.docker().inspect_image(reference).await;
    let found = found.map_err(|error| failed(error.into()))?;
    found.id.ok_or_else(|| failed("the engine tells no id of it".into()))
}

/// Writes the image's archive, as `docker save` does.
async fn export(engine: &Engine, reference: &str, path: &Path) -> Result<(), ImageError> {
    let written = async {
        let mut file = std::fs::File::create(path)?;
        let mut archive = Box::pin(engine.docker().export_image(reference));
        while let Some(portion) = archive.next().await {
            let portion = portion.map_err(std::io::Error::other)?;
            file.write_all(&portion)?;
        }
        file.flush()
    };
    written.await.map_err(|error: std::io::Error| ImageError::Export {
        reference: reference.to_owned(),
        source: error.into(),
    })
}
