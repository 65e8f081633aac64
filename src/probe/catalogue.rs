//! Where definitions are found: every `*.toml` of a folder, or those that were built in.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use super::definition::Probe;
use super::errors::{DefinitionError, DefinitionErrors};
use super::parse::{self, Known};
use crate::nearest::push_visible;
use crate::written::mistake::{Problem, Source};
use crate::written::values::is_kebab_case;

/// How many bytes a definition may have. Ours have about a thousand.
const LARGEST: usize = 256 * 1024;

/// How many files are worth a thread of their own. Fewer are read before the threads have been counted, which takes
/// 30 µs.
const WORTH_A_THREAD: usize = 64;

/// Stem and text of each file of the project's own `probes/`, written by the build script.
static BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/embedded_probes.rs"));

/// All probes, sorted by name. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    probes: Vec<Probe>,
}

/// A file before it is read.
struct Found {
    /// The name without the folder.
    name: String,
    /// As it is shown to a person.
    shown: String,
    content: Content,
}

enum Content {
    Regular(PathBuf),
    /// A link, or something else that is not simply a file.
    Other(PathBuf),
    BuiltIn(&'static str),
}

impl Catalogue {
    /// Reads every `*.toml` in `folder`, as a shell's glob finds them: neither hidden files nor what is in folders
    /// below. `known` are the breaches that exist, such as `&["no-bundle-route"]`.
    ///
    /// Everything that is wrong in any of the files comes out together. A folder without a definition is an error.
    pub fn discover<'k>(
        folder: &Path,
        known: impl Into<Known<'k>>,
    ) -> Result<Self, DefinitionErrors> {
        let unlisted = |source| DefinitionError::Folder { folder: folder.to_owned(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(unlisted)? {
            let entry = entry.map_err(unlisted)?;
            let name = entry.file_name();
            if !claims_to_be_a_definition(&name) {
                continue;
            }
            let (path, kind) = (entry.path(), entry.file_type().map_err(unlisted)?);
            let content = match path {
                path if kind.is_file() => Content::Regular(path),
                path if path.is_dir() => continue,
                path => Content::Other(path),
            };
            let name = name.to_string_lossy().into_owned();
            found.push(Found { name, shown: visible(&entry.path()), content });
        }
        Self::read(folder, found, known.into())
    }

    /// The definitions that were built in: those of the project itself.
    pub fn embedded<'k>(known: impl Into<Known<'k>>) -> Result<Self, DefinitionErrors> {
        let folder = Path::new("probes");
        let found = BUILT_IN.iter().map(|(stem, text)| {
            let name = format!("{stem}.toml");
            Found { shown: visible(&folder.join(&name)), name, content: Content::BuiltIn(text) }
        });
        Self::read(folder, found.collect(), known.into())
    }

    /// These probes and those of `other`. A name that both have is an error.
    pub fn and(self, other: Self) -> Result<Self, DefinitionErrors> {
        let taken = |probe: &Probe| {
            let first = self.get(&probe.name)?;
            Some(DefinitionError::DuplicateName {
                file: origin(probe),
                name: probe.name.clone(),
                other: origin(first),
            })
        };
        let errors: Vec<_> = other.probes.iter().filter_map(taken).collect();
        if !errors.is_empty() {
            return Err(DefinitionErrors::new(errors));
        }
        let mut probes = self.probes;
        probes.extend(other.probes);
        probes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { probes })
    }

    fn read(
        folder: &Path,
        mut found: Vec<Found>,
        known: Known<'_>,
    ) -> Result<Self, DefinitionErrors> {
        if found.is_empty() {
            return Err(DefinitionError::NoDefinition { folder: folder.to_owned() }.into());
        }
        // By stem: by file name, `a-b.toml` would come before `a.toml`.
        found.sort_by(|a, b| stem(&a.name).cmp(stem(&b.name)).then(a.name.cmp(&b.name)));
        let (mut probes, mut errors) = (Vec::with_capacity(found.len()), Vec::new());
        for read in read_all(&found, known) {
            match read {
                Ok(probe) => probes.push(probe),
                Err(wrong) => errors.extend(wrong),
            }
        }
        if errors.is_empty() { Ok(Self { probes }) } else { Err(DefinitionErrors::new(errors)) }
    }

    /// All probes, sorted by name.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// The probe of this name.
    pub fn get(&self, name: &str) -> Option<&Probe> {
        let at = self.probes.binary_search_by(|probe| probe.name.as_str().cmp(name)).ok()?;
        self.probes.get(at)
    }
}

/// Reads every file, in the order given: many of them on all processors.
fn read_all(found: &[Found], known: Known<'_>) -> Vec<Result<Probe, Vec<DefinitionError>>> {
    let read = |found: &[Found]| found.iter().map(|file| file.read(known)).collect::<Vec<_>>();
    if found.len() <= WORTH_A_THREAD {
        return read(found);
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = found.len().div_ceil(threads).max(WORTH_A_THREAD);
    thread::scope(|scope| {
        let shares: Vec<_> =
            found.chunks(share).map(|share| scope.spawn(move || read(share))).collect();
        let joined = shares.into_iter().map(thread::ScopedJoinHandle::join);
        joined.flat_map(|read| read.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

impl Found {
    /// Reads and parses it.
    fn read(&self, known: Known<'_>) -> Result<Probe, Vec<DefinitionError>> {
        let Self { name, shown, content } = self;
        let Some(stem) = name.strip_suffix(".toml").filter(|stem| is_kebab_case(stem)) else {
            let (file, name, better) = (shown.clone(), name.clone(), better_name(name));
            return Err(vec![DefinitionError::Name { file, name, better }]);
        };
        let unreadable = |source| vec![DefinitionError::Unreadable { file: shown.clone(), source }];
        let path = match content {
            Content::BuiltIn(text) => return parse(stem, None, shown, text, known),
            Content::Regular(path) => path,
            Content::Other(path) => {
                // Opening a pipe would wait for somebody to write to it.
                if !fs::metadata(path).map_err(unreadable)?.is_file() {
                    return Err(unreadable(io::Error::other("it is not a regular file")));
                }
                path
            }
        };
        let bytes = read_bounded(path).map_err(unreadable)?;
        if bytes.len() > LARGEST {
            return Err(vec![DefinitionError::TooLarge { file: shown.clone(), most: LARGEST }]);
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => parse(stem, Some(path.clone()), shown, text, known),
            Err(error) => Err(vec![not_utf8(shown, &bytes, error.valid_up_to())]),
        }
    }
}

/// Whether a name in a folder is meant to be that of a definition. `X.TOML` is, so that it is not left out silently.
fn claims_to_be_a_definition(name: &OsStr) -> bool {
    let hidden = name.as_encoded_bytes().starts_with(b".");
    let extension = Path::new(name).extension();
    !hidden && extension.is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// A right name that is like a wrong one, if there is one.
fn better_name(name: &str) -> Option<String> {
    let words =
        stem(name).split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let stem = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    is_kebab_case(&stem).then(|| format!("{stem}.toml"))
}

/// The whole of a file, or one byte more than it may have.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Enough for most: a thousand files are read in half the time.
    let mut bytes = Vec::with_capacity(4096);
    File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_utf8(shown: &str, bytes: &[u8], at: usize) -> DefinitionError {
    // What comes before the first bad byte is as it was, so its place is the same.
    let text = String::from_utf8_lossy(bytes);
    let problem = Problem::NotUtf8 { byte: bytes[at] };
    DefinitionError::Mistake(Source::new(shown, &text).mistake(&(at..at + 1), problem))
}

fn parse(
    stem: &str,
    file: Option<PathBuf>,
    shown: &str,
    text: &str,
    known: Known<'_>,
) -> Result<Probe, Vec<DefinitionError>> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    parse::probe(stem, file, shown, text, known)
        .map_err(|mistakes| mistakes.into_iter().map(DefinitionError::Mistake).collect())
}

/// A path that does nothing to a terminal.
fn visible(path: &Path) -> String {
    let mut shown = String::new();
    path.to_string_lossy().chars().for_each(|character| push_visible(&mut shown, character));
    shown
}

fn origin(probe: &Probe) -> String {
    match &probe.file {
        Some(file) => visible(file),
        None => format!("the built-in {}.toml", probe.name),
    }
}
