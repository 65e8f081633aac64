//! Where definitions are found: every `*.toml` of a folder, or those that were built in.

use std::path::Path;

use super::definition::Probe;
use super::errors::{DefinitionError, DefinitionErrors};
use super::parse::{self, Known};
use crate::written::Mistake;
use crate::written::folder::{Definition, Definitions, visible};

/// Stem and text of each file of the project's own `probes/`, written by the build script.
static BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/embedded_probes.rs"));

/// All probes, sorted by name. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    probes: Vec<Probe>,
}

fn definitions(
    known: Known<'_>,
) -> Definitions<impl Fn(Definition<'_>) -> Result<Probe, Vec<Mistake>> + Sync> {
    let read = move |Definition { name, file, shown, text }: Definition<'_>| {
        parse::probe(name, file, shown, text, known)
    };
    Definitions { what: "probe", read }
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
        Ok(Self { probes: definitions(known.into()).discover(folder)? })
    }

    /// The definitions that were built in: those of the project itself.
    pub fn embedded<'k>(known: impl Into<Known<'k>>) -> Result<Self, DefinitionErrors> {
        let probes = definitions(known.into()).embedded(Path::new("probes"), BUILT_IN)?;
        Ok(Self { probes })
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

fn origin(probe: &Probe) -> String {
    match &probe.file {
        Some(file) => visible(file),
        None => format!("the built-in {}.toml", probe.name),
    }
}
