//! A folder of definitions: every `*.toml` as a shell's glob finds them, or those that were built in.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use super::errors::{DefinitionError, DefinitionErrors};
use super::mistake::{Mistake, Problem, Source};
use super::values::is_kebab_case;
use crate::nearest::push_visible;

/// How many bytes a definition may have. Ours have about a thousand.
const LARGEST: usize = 256 * 1024;

/// How many files are worth a thread of their own. Fewer are read before the threads have been counted, which takes
/// 30 µs.
const WORTH_A_THREAD: usize = 64;

/// One definition to be read.
pub(crate) struct Definition<'a> {
    /// The file's stem.
    pub(crate) name: &'a str,
    /// Where it was found; none if it was built in.
    pub(crate) file: Option<PathBuf>,
    /// The file as it is shown to a person.
    pub(crate) shown: &'a str,
    /// What it says.
    pub(crate) text: &'a str,
}

/// Definitions of one kind: `probe`, `canary`.
pub(crate) struct Definitions<R> {
    /// What is defined, for messages.
    pub(crate) what: &'static str,
    /// Reads one.
    pub(crate) read: R,
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

impl<T, R> Definitions<R>
where
    T: Send,
    R: Fn(Definition<'_>) -> Result<T, Vec<Mistake>> + Sync,
{
    /// Reads every `*.toml` in `folder`, as a shell's glob finds them: neither hidden files nor what is in folders
    /// below. Sorted by name, never empty.
    ///
    /// Everything that is wrong in any of the files comes out together. A folder without a definition is an error.
    pub(crate) fn discover(&self, folder: &Path) -> Result<Vec<T>, DefinitionErrors> {
        let what = self.what;
        let unlisted = |source| DefinitionError::Folder { what, folder: folder.to_owned(), source };
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
        self.read(folder, found)
    }

    /// Reads those that were built in, pairs of stem and text; `folder` is where the project has them.
    pub(crate) fn embedded(
        &self,
        folder: &Path,
        built_in: &[(&str, &'static str)],
    ) -> Result<Vec<T>, DefinitionErrors> {
        let found = built_in.iter().map(|(stem, text)| {
            let name = format!("{stem}.toml");
            Found { shown: visible(&folder.join(&name)), name, content: Content::BuiltIn(text) }
        });
        self.read(folder, found.collect())
    }

    fn read(&self, folder: &Path, mut found: Vec<Found>) -> Result<Vec<T>, DefinitionErrors> {
        if found.is_empty() {
            let (what, folder) = (self.what, folder.to_owned());
            return Err(DefinitionError::NoDefinition { what, folder }.into());
        }
        // By stem: by file name, `a-b.toml` would come before `a.toml`.
        found.sort_by(|a, b| stem(&a.name).cmp(stem(&b.name)).then(a.name.cmp(&b.name)));
        let (mut right, mut errors) = (Vec::with_capacity(found.len()), Vec::new());
        for read in self.read_all(&found) {
            match read {
                Ok(definition) => right.push(definition),
                Err(wrong) => errors.extend(wrong),
            }
        }
        if errors.is_empty() { Ok(right) } else { Err(DefinitionErrors::new(errors)) }
    }

    /// Reads every file, in the order given: many of them on all processors.
    fn read_all(&self, found: &[Found]) -> Vec<Result<T, Vec<DefinitionError>>> {
        let read =
            |found: &[Found]| found.iter().map(|file| file.read(&self.read)).collect::<Vec<_>>();
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
}

impl Found {
    /// Reads and parses it.
    fn read<T>(
        &self,
        parse: impl Fn(Definition<'_>) -> Result<T, Vec<Mistake>>,
    ) -> Result<T, Vec<DefinitionError>> {
        let Self { name, shown, content } = self;
        let Some(name) = name.strip_suffix(".toml").filter(|stem| is_kebab_case(stem)) else {
            let (file, name, better) = (shown.clone(), name.clone(), better_name(name));
            return Err(vec![DefinitionError::Name { file, name, better }]);
        };
        let parse = |file: Option<PathBuf>, text: &str| {
            // Some editors begin a file with a byte order mark.
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            parse(Definition { name, file, shown, text })
                .map_err(|mistakes| mistakes.into_iter().map(DefinitionError::Mistake).collect())
        };
        let unreadable = |source| vec![DefinitionError::Unreadable { file: shown.clone(), source }];
        let path = match content {
            Content::BuiltIn(text) => return parse(None, text),
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
            Ok(text) => parse(Some(path.clone()), text),
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

/// A path that does nothing to a terminal.
pub(crate) fn visible(path: &Path) -> String {
    let mut shown = String::new();
    path.to_string_lossy().chars().for_each(|character| push_visible(&mut shown, character));
    shown
}
