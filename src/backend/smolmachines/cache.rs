//! Images as smolvm takes them, made once: `~/.cache/claude-bottle/smolmachines/`.
//!
//! An entry is a folder that holds one file and its key. It is made beside its place and renamed there, while a lock is held:
//! whoever finds it finds all of it, and of two that want it at the same time one makes it. Everybody may read it, since
//! smolvm's monitor gives up root before it opens what it was given.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::smolvm::version::Version;

/// The file of an entry that says what it is.
const KEY: &str = "key.json";
/// How the name of one that is being made ends.
const NEW: &str = ".new";
/// How the name of a lock ends.
const LOCK: &str = ".lock";

/// What an entry is made of, and so what it is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The image's reference.
    pub reference: String,
    /// Its digest, or the id that an engine gives it. None for a reference that a registry resolves: whatever it meant when
    /// the entry was made.
    pub digest: Option<String>,
    /// The version of smolvm that made it.
    pub smolvm: String,
    /// The machine's architecture.
    pub arch: String,
    /// The name of the file.
    pub file: String,
}

impl Key {
    /// The key of a pack of an image.
    pub fn pack(reference: &str, digest: Option<&str>, smolvm: Version) -> Self {
        Self {
            reference: reference.to_owned(),
            digest: digest.map(ToOwned::to_owned),
            smolvm: smolvm.to_string(),
            arch: std::env::consts::ARCH.to_owned(),
            file: "image.smolmachine".to_owned(),
        }
    }

    /// The key of an archive of an image, for a smolvm that makes machines of archives and no packs.
    pub fn archive(reference: &str, digest: &str, smolvm: Version) -> Self {
        Self { file: "image.tar".to_owned(), ..Self::pack(reference, Some(digest), smolvm) }
    }

    /// The name of its entry's folder.
    fn folder(&self) -> String {
        // Tuples of texts are written without ambiguity.
        let Self { reference, digest, smolvm, arch, file } = self;
        let text = serde_json::json!([reference, digest, smolvm, arch, file]).to_string();
        let hash = Sha256::digest(text.as_bytes());
        let mut name = String::new();
        for byte in hash.iter().take(16) {
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

/// What went wrong with the cache.
#[derive(Debug, Error)]
pub enum CacheError {
    /// Nobody knows where it would be.
    #[error("there is no cache folder: neither XDG_CACHE_HOME nor HOME is set to an absolute path")]
    Nowhere,
    /// A file or folder of it.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What makes an entry made none.
    #[error("nothing was made at {}", .0.display())]
    NotMade(PathBuf),
    /// Somebody else could not read what is in it.
    #[error(
        "smolvm's monitor runs as a user of its own and cannot get to {}, since {} is closed to others \
         (chmod o+x it, or set XDG_CACHE_HOME to another folder)",
        path.display(),
        closed.display()
    )]
    Closed {
        /// What must be read.
        path: PathBuf,
        /// The folder in the way.
        closed: PathBuf,
    },
}

fn file<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CacheError + use<'a> {
    move |source| CacheError::File { what, path: path.to_owned(), source }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is made of.
    pub key: Key,
    /// How large its file is, in bytes.
    pub size: u64,
    /// When it was made.
    pub made: Option<SystemTime>,
}

/// The cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The person's own.
    pub fn of_user() -> Result<Self, CacheError> {
        Self::by(|name| std::env::var_os(name).map(PathBuf::from))
    }

    /// A relative path in `XDG_CACHE_HOME` is to be ignored (XDG Base Directory Specification).
    fn by(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, CacheError> {
        let absolute = |name| variable(name).filter(|path| path.is_absolute());
        let root = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        let root = root.ok_or(CacheError::Nowhere)?;
        Ok(Self::at(root.join("claude-bottle/smolmachines")))
    }

    /// One in this folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the entry with this key. Where there is none, `make` is called with the path at which to make it; another
    /// process that wants the same waits meanwhile.
    pub async fn get<E: From<CacheError>>(
        &self,
        key: &Key,
        make: impl AsyncFnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let name = key.folder();
        let (entry, new) = (self.folder.join(&name), self.folder.join(format!("{name}{NEW}")));
        let place = entry.join(&key.file);
        if place.is_file() {
            return Ok(place);
        }
        open_to_all(&self.folder)?;
        let lock = self.folder.join(format!("{name}{LOCK}"));
        let locked = tokio::task::spawn_blocking(move || locked(&lock)).await;
        let _locked = locked.map_err(io::Error::other).map_err(file("lock", &entry))??;
        // Whoever held the lock has made it.
        if place.is_file() {
            return Ok(place);
        }
        // What somebody left who was killed.
        remove(&new)?;
        open_to_all(&new)?;
        let result = make(&new.join(&key.file)).await;
        let finished = result.and_then(|()| Ok(finish(key, &new, &entry)?));
        if finished.is_err() {
            let _ = remove(&new);
        }
        finished.map(|()| place)
    }

    /// Every entry, by key.
    pub fn entries(&self) -> Result<Vec<Entry>, CacheError> {
        let mut entries = Vec::new();
        for folder in self.folders()? {
            // One that is being made has no key yet, or is not in its place.
            let Ok(key) = fs::read(folder.join(KEY)) else { continue };
            let Ok(key) = serde_json::from_slice::<Key>(&key) else { continue };
            let about = fs::metadata(folder.join(&key.file)).ok();
            let size = about.as_ref().map_or(0, fs::Metadata::len);
            entries.push(Entry { key, size, made: about.and_then(|about| about.modified().ok()) });
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Removes every entry that is not being made, and what was left of those that were not finished; how many entries.
    pub fn clear(&self) -> Result<usize, CacheError> {
        let mut removed = 0;
        for folder in self.folders()? {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = name.strip_suffix(NEW).unwrap_or(&name);
            let lock = self.folder.join(format!("{name}{LOCK}"));
            let Some(_locked) = try_locked(&lock)? else { continue };
            let is_entry = folder.join(KEY).is_file() && !folder.to_string_lossy().ends_with(NEW);
            remove(&folder)?;
            removed += usize::from(is_entry);
        }
        Ok(removed)
    }

    /// Entries, and those that are being made.
    fn folders(&self) -> Result<Vec<PathBuf>, CacheError> {
        let found = match fs::read_dir(&self.folder) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file("list", &self.folder)(error)),
        };
        let folders = found.flatten().map(|one| one.path()).filter(|path| path.is_dir());
        Ok(folders.collect())
    }
}

/// Puts what was made in its place.
fn finish(key: &Key, new: &Path, entry: &Path) -> Result<(), CacheError> {
    let made = new.join(&key.file);
    if !made.is_file() {
        return Err(CacheError::NotMade(made));
    }
    fs::set_permissions(&made, Permissions::from_mode(0o644)).map_err(file("open", &made))?;
    let text = serde_json::to_vec(key).map_err(io::Error::from);
    let place = new.join(KEY);
    text.and_then(|text| fs::write(&place, text)).map_err(file("write", &place))?;
    // So that a crash of the machine leaves no entry with half a file.
    File::open(&made).and_then(|made| made.sync_all()).map_err(file("sync", &made))?;
    // What is there has no file: an entry that somebody took apart.
    remove(entry)?;
    fs::rename(new, entry).map_err(file("rename", new))
}

/// A folder that everybody may enter and read.
fn open_to_all(folder: &Path) -> Result<(), CacheError> {
    fs::create_dir_all(folder).map_err(file("make", folder))?;
    fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(file("open", folder))
}

fn remove(folder: &Path) -> Result<(), CacheError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Waits for the lock. Its file stays: were it removed, two could hold locks of that name.
fn locked(path: &Path) -> Result<Flock<File>, CacheError> {
    let open = File::create(path).map_err(file("make", path))?;
    Flock::lock(open, FlockArg::LockExclusive)
        .map_err(|(_, errno)| file("lock", path)(errno.into()))
}

/// The lock, unless somebody has it.
fn try_locked(path: &Path) -> Result<Option<Flock<File>>, CacheError> {
    let open = File::create(path).map_err(file("make", path))?;
    match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Some(locked)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(file("lock", path)(errno.into())),
    }
}

/// Refuses a file that a user who is nobody here could not get to. smolvm opens the person's home folder by itself.
pub fn readable_by_others(path: &Path, home: Option<&Path>) -> Result<(), CacheError> {
    let closed = |folder: &Path| CacheError::Closed { path: path.into(), closed: folder.into() };
    let mode = |path: &Path| {
        let about = fs::metadata(path).map_err(file("look at", path))?;
        Ok::<u32, CacheError>(about.permissions().mode())
    };
    if mode(path)? & 0o004 == 0 {
        return Err(closed(path));
    }
    for folder in path.ancestors().skip(1).filter(|folder| Some(*folder) != home) {
        if mode(folder)? & 0o001 == 0 {
            return Err(closed(folder));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn key(reference: &str) -> Key {
        Key::pack(reference, Some("sha256:1"), Version::new(1, 32, 2))
    }

    #[test]
    fn its_place_is_the_one_that_the_person_has_chosen() {
        let by = |cache: Option<&str>, home: Option<&str>| {
            let found = Cache::by(|name| match name {
                "XDG_CACHE_HOME" => cache.map(PathBuf::from),
                _ => home.map(PathBuf::from),
            });
            found.ok().map(|found| found.folder.display().to_string())
        };
        let there = |path: &str| Some(path.to_owned());
        assert_eq!(by(Some("/c"), Some("/h")), there("/c/claude-bottle/smolmachines"));
        assert_eq!(by(Some("c"), Some("/h")), there("/h/.cache/claude-bottle/smolmachines"));
        assert_eq!(by(None, Some("/h")), there("/h/.cache/claude-bottle/smolmachines"));
        assert_eq!(by(Some(""), None), None);
    }

    #[test]
    fn another_of_anything_is_another_entry() {
        let one = key("a");
        let mut others = vec![key("b")];
        others.push(Key { digest: None, ..one.clone() });
        others.push(Key { digest: Some("sha256:2".into()), ..one.clone() });
        others.push(Key { smolvm: "1.9.1".into(), ..one.clone() });
        others.push(Key { arch: "other".into(), ..one.clone() });
        others.push(Key::archive("a", "sha256:1", Version::new(1, 32, 2)));
        let names: std::collections::BTreeSet<_> =
            others.iter().chain([&one]).map(Key::folder).collect();
        assert_eq!(names.len(), others.len() + 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_that_want_it_one_makes_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let made = Arc::new(AtomicUsize::new(0));
        let all = (0..8).map(|_| {
            let (cache, made) = (cache.clone(), Arc::clone(&made));
            tokio::spawn(async move {
                let pack = async |path: &Path| {
                    made.fetch_add(1, Ordering::SeqCst);
                    fs::write(path, "a pack").unwrap();
                    // So that the others come to the lock.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    Ok::<(), CacheError>(())
                };
                cache.get(&key("alpine:latest"), pack).await.unwrap()
            })
        });
        for one in futures_util::future::join_all(all).await {
            assert_eq!(fs::read(one.unwrap()).unwrap(), b"a pack");
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
        let entries = cache.entries().unwrap();
        assert_eq!(
            entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(),
            [&key("alpine:latest")]
        );
        assert_eq!(entries[0].size, 6);
        assert_eq!(cache.clear().unwrap(), 1);
        assert_eq!(cache.entries().unwrap(), []);
    }

    #[tokio::test]
    async fn what_was_not_made_whole_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let half = async |path: &Path| {
            fs::write(path, "half").unwrap();
            Err(CacheError::Nowhere)
        };
        cache.get(&key("a"), half).await.unwrap_err();
        let nothing = async |_: &Path| Ok::<(), CacheError>(());
        let error = cache.get(&key("a"), nothing).await.unwrap_err();
        assert!(matches!(error, CacheError::NotMade(_)), "{error}");
        // Somebody who was killed.
        let left = folder.path().join(format!("{}{NEW}", key("a").folder()));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("image.smolmachine"), "half").unwrap();
        assert_eq!(cache.entries().unwrap(), []);
        let whole = async |path: &Path| {
            assert!(!path.exists(), "the half is gone");
            fs::write(path, "whole").map_err(file("write", path))
        };
        let path = cache.get(&key("a"), whole).await.unwrap();
        assert_eq!(fs::read(path).unwrap(), b"whole");
    }

    #[tokio::test]
    async fn one_that_is_being_made_is_not_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let make = async |path: &Path| {
            assert_eq!(cache.clear()?, 0);
            fs::write(path, "whole").map_err(file("write", path))
        };
        cache.get(&key("a"), make).await.unwrap();
        assert_eq!(cache.entries().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn everybody_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let make = async |path: &Path| {
            fs::write(path, "x").map_err(file("write", path))?;
            fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(file("close", path))
        };
        let path = cache.get(&key("a"), make).await.unwrap();
        // The folder of the test is the person's home, as it were, which smolvm opens.
        readable_by_others(&path, Some(folder.path())).unwrap();
        let error = readable_by_others(&path, None).unwrap_err();
        let CacheError::Closed { closed, .. } = error else { panic!("{error}") };
        assert_eq!(closed, folder.path());
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        readable_by_others(&path, Some(folder.path())).unwrap_err();
    }
}
