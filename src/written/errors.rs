//! What can be wrong with the definitions of a folder.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use super::Mistake;
use crate::nearest::quote;

/// Everything that is wrong with definitions, of all files, in the order of their names.
#[derive(Debug)]
pub struct DefinitionErrors(Vec<DefinitionError>);

impl DefinitionErrors {
    pub(crate) fn new(errors: Vec<DefinitionError>) -> Self {
        Self(errors)
    }

    /// Each of them; never empty.
    pub fn iter(&self) -> impl Iterator<Item = &DefinitionError> {
        self.0.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<DefinitionError> for DefinitionErrors {
    fn from(error: DefinitionError) -> Self {
        Self(vec![error])
    }
}

/// All of them, a blank line between two.
impl fmt::Display for DefinitionErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{error}")?;
            // A mistake is complete in itself; the others have their cause from the system.
            let mut source = error.source();
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        if self.0.len() > 1 {
            write!(f, "\n\n{} mistakes in all", self.0.len())?;
        }
        Ok(())
    }
}

impl Error for DefinitionErrors {}

/// One thing that is wrong with definitions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// There is nothing to find. Zero of them would be zero failures.
    #[error("no {what} definition (*.toml) in {}", folder.display())]
    NoDefinition {
        /// What is defined: `probe` or `canary`.
        what: &'static str,
        /// Where they were looked for.
        folder: PathBuf,
    },
    /// The folder is missing or cannot be listed.
    #[error("the folder of {what} definitions {} cannot be read", folder.display())]
    Folder {
        /// What is defined: `probe` or `canary`.
        what: &'static str,
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("{file}: the file cannot be read")]
    Unreadable {
        /// The file, as it is shown to a person.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is larger than any definition.
    #[error("{file}: the file has more than {most} bytes")]
    TooLarge {
        /// The file, as it is shown to a person.
        file: String,
        /// How many it may have.
        most: usize,
    },
    /// The file's name cannot be that of a definition.
    #[error(
        "{file}: the file's name {} is not lower-case words joined by `-` and `.toml`{}",
        quote(name),
        better.as_ref().map(|better| format!(", did you mean {}?", quote(better))).unwrap_or_default()
    )]
    Name {
        /// The file, as it is shown to a person.
        file: String,
        /// Its name without the folder.
        name: String,
        /// A name that would be right.
        better: Option<String>,
    },
    /// Two files have the same stem.
    #[error("{file}: the name {} is that of {other} already", quote(name))]
    DuplicateName {
        /// The file, as it is shown to a person.
        file: String,
        /// The name.
        name: String,
        /// The other file.
        other: String,
    },
    /// Something is wrong in a file.
    #[error("{0}")]
    Mistake(Mistake),
}
