//! Which probes of a catalogue are meant.

use std::collections::BTreeSet;

use super::catalogue::Catalogue;
use super::definition::Probe;
use super::errors::SelectionError;
use crate::nearest::Suggestion;

/// What a person asked for. Empty: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Parts of names, or whole ones where [`exact`](Self::exact). A probe is meant if any of them is its own.
    pub names: Vec<String>,
    /// Names are whole ones.
    pub exact: bool,
    /// Tags. A probe is meant if it has any of them, and none of those that begin with `-`, such as `-slow`.
    pub tags: Vec<String>,
}

impl Filters {
    fn names(&self, name: &str, probe: &Probe) -> bool {
        if self.exact { probe.name == name } else { probe.name.contains(name) }
    }
}

impl Catalogue {
    /// The probes that are meant, sorted by name. Never empty: a selection of nothing is an error that says which
    /// names or tags there are. So is a name or a tag that does not exist beside one that does, but not a
    /// `-tag` that no probe has: it leaves out what is not there.
    pub fn select(&self, filters: &Filters) -> Result<Vec<&Probe>, SelectionError> {
        for name in &filters.names {
            if !self.probes().iter().any(|probe| filters.names(name, probe)) {
                let names = self.probes().iter().map(|probe| probe.name.as_str());
                let suggestion = Suggestion::several(name, names);
                return Err(SelectionError::NoSuchName { name: name.clone(), suggestion });
            }
        }
        let existing: BTreeSet<&str> =
            self.probes().iter().flat_map(|probe| &probe.tags).map(String::as_str).collect();
        let (without, with): (Vec<&str>, Vec<&str>) =
            filters.tags.iter().map(String::as_str).partition(|tag| tag.starts_with('-'));
        if let Some(&tag) = with.iter().find(|&tag| !existing.contains(tag)) {
            let suggestion = Suggestion::several(tag, existing);
            return Err(SelectionError::NoSuchTag { tag: tag.to_owned(), suggestion });
        }

        let mut selected: Vec<&Probe> = self
            .probes()
            .iter()
            .filter(|probe| {
                filters.names.is_empty() || filters.names.iter().any(|n| filters.names(n, probe))
            })
            .collect();
        let names = selected.iter().map(|probe| probe.name.clone()).collect();
        selected.retain(|probe| {
            let has = |tag: &str| probe.tags.iter().any(|own| own == tag);
            let wanted = with.is_empty() || with.iter().any(|tag| has(tag));
            wanted && !without.iter().any(|tag| has(&tag[1..]))
        });
        if selected.is_empty() {
            return Err(SelectionError::NothingLeft { names });
        }
        Ok(selected)
    }
}
