//! From a file's text to a [`Probe`]: what `raw` reads, checked and multiplied out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::definition::{Expect, On, Probe};
use super::errors::Rule;
use crate::breach::Breach;
use crate::host::Requirement;
use crate::nearest::UnknownWord;
use crate::written::read::Written;
use crate::written::values::{List, Name};
use crate::written::{At, Mistake, Reader};

mod attempts;
pub(crate) mod raw;

/// The words that definitions may use and that are known elsewhere.
///
/// A slice of the breaches' names will do: `Known::from(&["no-bundle-route"])`.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Every breach.
    pub breaches: &'a [&'a str],
    /// Every requirement; none: `needs` is not checked here.
    pub requirements: Option<&'a [&'a str]>,
}

impl Known<'static> {
    /// Every breach and every requirement that there is.
    pub fn all() -> Self {
        static BREACHES: LazyLock<Vec<&str>> = LazyLock::new(Breach::names);
        static REQUIREMENTS: LazyLock<Vec<&str>> = LazyLock::new(Requirement::words);
        Self { breaches: &BREACHES, requirements: Some(&REQUIREMENTS) }
    }
}

impl<'a> Known<'a> {
    /// Checks `needs` against these requirements, too.
    pub fn with_requirements(self, requirements: &'a [&'a str]) -> Self {
        Self { requirements: Some(requirements), ..self }
    }
}

impl<'a> From<&'a [&'a str]> for Known<'a> {
    fn from(breaches: &'a [&'a str]) -> Self {
        Self { breaches, requirements: None }
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for Known<'a> {
    fn from(breaches: &'a [&'a str; N]) -> Self {
        breaches.as_slice().into()
    }
}

/// Reads the text of the file that is shown as `shown`; `name` is its stem, `file` where it was found.
pub(crate) fn probe(
    name: &str,
    file: Option<PathBuf>,
    shown: &str,
    text: &str,
    known: Known<'_>,
) -> Result<Probe, Vec<Mistake>> {
    let mut reader = Reader::default();
    let probe = reader
        .document::<raw::Probe>(text)
        .and_then(|raw| check(name, file, text, raw, known, &mut reader));
    match probe {
        Some(probe) if reader.is_clean() => Ok(probe),
        _ => Err(reader.finish(shown, text)),
    }
}

/// Checks what must go together. None where something is wrong; the reader has the reasons.
fn check(
    name: &str,
    file: Option<PathBuf>,
    text: &str,
    raw: raw::Probe,
    known: Known<'_>,
    reader: &mut Reader,
) -> Option<Probe> {
    check_names("breach", Some(&raw.proven_by), Some(known.breaches), reader);
    check_names("requirement", raw.needs.as_ref(), known.requirements, reader);

    let referenced = raw.references.is_some();
    let tables = raw.attempt.0.map(|tables| tables.value.0);
    let attempts = tables.map(|tables| attempts::all(tables, referenced, text, reader));

    let mut on = BTreeMap::new();
    let tables = raw.on.and_then(|on| on.0).map(|on| on.value.tables).unwrap_or_default();
    for (backend, table) in tables {
        let tried = attempts.as_deref().unwrap_or_default();
        attempts::check_expect_on(&table.value, tried, backend, reader);
        if let Some(different) = difference(table, reader) {
            on.insert(backend.to_owned(), different);
        }
    }

    Some(Probe {
        name: name.to_owned(),
        file,
        title: raw.title.0?.value.0,
        why: raw.why.0?.value.0.trim().to_owned(),
        severity: raw.severity.0?.value,
        tags: texts(raw.tags, |name| name.0),
        references: texts(raw.references, |line| line.0),
        proven_by: texts(Some(raw.proven_by), |name| name.0),
        needs: texts(raw.needs, |name| name.0),
        on,
        attempts: attempts?,
    })
}

/// Notes every name that is none of the right ones, where those are known.
fn check_names(
    what: &'static str,
    names: Option<&Written<List<Name>>>,
    right: Option<&[&str]>,
    reader: &mut Reader,
) {
    let (Some(Written(Some(names))), Some(right)) = (names, right) else {
        return;
    };
    for At { value: Name(name), span } in &names.value.0 {
        if !right.contains(&name.as_str()) {
            let unknown = UnknownWord::new(what, name, right.iter().copied());
            reader.note(span.clone(), unknown.into());
        }
    }
}

fn texts<T>(list: Option<Written<List<T>>>, text: fn(T) -> String) -> Vec<String> {
    let items = list.and_then(|list| list.0).map(|list| list.value.0).unwrap_or_default();
    items.into_iter().map(|item| text(item.value)).collect()
}

/// What is different on one backend.
fn difference(table: At<raw::On>, reader: &mut Reader) -> Option<On> {
    let At { value: raw::On { expect, skip, because, reference }, span } = table;
    match (&expect, &skip) {
        (None, None) => reader.rule(&span, Rule::NothingDifferent),
        (_, Some(Written(Some(At { value: true, span })))) if expect.is_some() => {
            reader.rule(span, Rule::SkippedAndExpected);
        }
        (None, Some(Written(Some(At { value: false, span })))) => {
            reader.rule(span, Rule::NothingDifferent);
        }
        _ => {}
    }
    if let Some(Written(Some(At { value: Expect::Leaks, span }))) = &expect
        && reference.is_none()
    {
        reader.rule(span, Rule::LeaksWithoutReference { key: "reference" });
    }
    Some(On {
        expect: expect.and_then(|expect| expect.0).map(|expect| expect.value),
        skip: skip.and_then(|skip| skip.0).is_some_and(|skip| skip.value),
        because: because.0?.value.0.trim().to_owned(),
        reference: reference.and_then(|reference| reference.0).map(|line| line.value.0),
    })
}
