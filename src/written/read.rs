//! Walking a document.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Problem, Source, Span};
use crate::nearest::{Suggestion, UnknownWord, quote};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// What can be read from a value.
pub(crate) trait Read: Sized {
    /// For messages about a value of another type: `a string`, `an array`, …
    const EXPECTED: &'static str;

    /// Reads the value of `key`. None: it is wrong, and the reader has the reason.
    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self>;
}

/// Collects the mistakes of one document.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    mistakes: Vec<(Span, Problem)>,
    /// Whether it is JSON, whose types have other names.
    is_json: bool,
}

impl Reader {
    /// Reads a whole document. None where there is nothing that could be checked any further.
    pub(crate) fn document<T: Read>(&mut self, text: &str) -> Option<T> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            self.syntax(text, &errors);
            return None;
        }
        // Whatever is missing at the top is missing from the first line on.
        let root = Spanned::new(0..0, DeValue::Table(table.into_inner()));
        T::read(&root, "", self)
    }

    /// As [`Reader::document`], of a JSON document.
    pub(crate) fn json_document<T: Read>(&mut self, text: &str) -> Option<T> {
        self.is_json = true;
        match super::json::parse(text) {
            Ok(root) => T::read(&root, "", self),
            Err((span, problem)) => {
                self.note(span, problem);
                None
            }
        }
    }

    /// Notes what the TOML parser found, without what only follows from it: the rest of the same line, and the same
    /// again line after line (every line after a list that has no end).
    fn syntax(&mut self, text: &str, errors: &[toml::de::Error]) {
        let mut lines: BTreeMap<usize, (Span, &str)> = BTreeMap::new();
        for error in errors {
            let span = error.span().unwrap_or_default();
            let line = text[..span.start].matches('\n').count();
            lines.entry(line).or_insert((span, error.message()));
        }
        let mut before = None;
        for (line, (span, message)) in lines {
            if before.replace((line + 1, message)) != Some((line, message)) {
                let at = near_text(text, line, &span);
                self.note(
                    span,
                    Problem::Syntax { format: "TOML", at, message: message.to_owned() },
                );
            }
        }
    }

    /// Notes a problem.
    pub(crate) fn note(&mut self, span: Span, problem: Problem) {
        self.mistakes.push((span, problem));
    }

    /// Notes that a rule is broken.
    pub(crate) fn rule(
        &mut self,
        span: &Span,
        rule: impl std::error::Error + Send + Sync + 'static,
    ) {
        self.note(span.clone(), Problem::Rule(Box::new(rule)));
    }

    /// Notes that a value has the wrong type.
    pub(crate) fn wrong_type<T: Read>(&mut self, value: &Spanned<DeValue<'_>>, key: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let expected = self.type_name(T::EXPECTED);
        let found = self.type_name(found);
        // At the top of a file there is no key.
        let key = if key.is_empty() { "the file" } else { key }.to_owned();
        self.note(value.span(), Problem::WrongType { key, found, expected });
    }

    /// A type as the document's format calls it.
    fn type_name(&self, toml: &'static str) -> &'static str {
        match toml {
            "a table" if self.is_json => "an object",
            "a string or a table" if self.is_json => "a string or an object",
            "an integer" | "a float" if self.is_json => "a number",
            same => same,
        }
    }

    /// Whether anything is wrong so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// All mistakes, in the order of the file.
    pub(crate) fn finish(mut self, file: &str, text: &str) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|(span, _)| span.start);
        let source = Source::new(file, text);
        self.mistakes.into_iter().map(|(span, problem)| source.mistake(&span, problem)).collect()
    }
}

/// What to call the place of a syntax error: the part itself, or else its line.
fn near_text(text: &str, line: usize, span: &Span) -> String {
    let part = text.get(span.clone()).unwrap_or_default().trim();
    let line = text.lines().nth(line).unwrap_or_default().trim();
    match (part, line) {
        ("", "") => "the end of the file".to_owned(),
        ("", line) => quote(line),
        (part, _) => quote(part.lines().next().unwrap_or_default()),
    }
}

/// The keys of one table.
pub(crate) struct Fields<'v, 'i> {
    table: &'v DeTable<'i>,
    span: Span,
    key: &'v str,
    /// Keys that unknown ones were meant to be: they are not missing as well.
    misspelt: Vec<String>,
    missing: Vec<String>,
}

impl<'v, 'i> Fields<'v, 'i> {
    /// The fields of a table; each key that is neither `tag` nor one of `fields` is a mistake.
    pub(crate) fn of<T: Read>(
        value: &'v Spanned<DeValue<'i>>,
        key: &'v str,
        fields: &[&'static str],
        tag: Option<&'static str>,
        reader: &mut Reader,
    ) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            reader.wrong_type::<T>(value, key);
            return None;
        };
        let keys: Vec<Cow<'_, str>> =
            tag.iter().chain(fields).map(|field| written(field)).collect();
        let mut misspelt = Vec::new();
        for key in table.keys().filter(|key| !keys.contains(key.get_ref())) {
            let right = keys.iter().map(AsRef::as_ref);
            let unknown = UnknownWord::new("key", key.get_ref(), right);
            if let Suggestion::DidYouMean(meant) = &unknown.suggestion {
                misspelt.extend(meant.iter().cloned());
            }
            reader.note(key.span(), unknown.into());
        }
        Some(Self { table, span: value.span(), key, misspelt, missing: Vec::new() })
    }

    /// The value of a field.
    pub(crate) fn field<F: Field>(&mut self, field: &'static str, reader: &mut Reader) -> F {
        let key = written(field);
        let written = match self.table.get(&*key) {
            Some(value) => {
                let read = F::Value::read(value, &key, reader);
                Some(Written(read.map(|read| At { value: read, span: value.span() })))
            }
            None if self.misspelt.iter().any(|meant| *meant == key) => Some(Written(None)),
            None => None,
        };
        if F::REQUIRED && written.is_none() {
            self.missing.push(key.into_owned());
        }
        F::from_written(written)
    }

    /// Notes which fields are missing.
    pub(crate) fn finish(self, reader: &mut Reader) {
        if !self.missing.is_empty() {
            let table = (!self.key.is_empty()).then(|| self.key.to_owned());
            reader.note(self.span, Problem::Missing { keys: self.missing, table });
        }
    }
}

/// A field's name as its key is written.
fn written(field: &str) -> Cow<'_, str> {
    if field.contains('_') { field.replace('_', "-").into() } else { field.into() }
}

/// The value of a key that was written. Empty where it is wrong; the reader has the reason.
#[derive(Debug)]
pub(crate) struct Written<T>(pub(crate) Option<At<T>>);

/// A field of a table: `Written<T>` where its key is required, `Option<Written<T>>` where it may be left out.
pub(crate) trait Field {
    /// What is read.
    type Value: Read;
    /// Whether its key must be there.
    const REQUIRED: bool;

    /// The field for what was written, if anything was.
    fn from_written(written: Option<Written<Self::Value>>) -> Self;
}

impl<T: Read> Field for Written<T> {
    type Value = T;
    const REQUIRED: bool = true;

    fn from_written(written: Option<Self>) -> Self {
        written.unwrap_or(Self(None))
    }
}

impl<T: Read> Field for Option<Written<T>> {
    type Value = T;
    const REQUIRED: bool = false;

    fn from_written(written: Self) -> Self {
        written
    }
}

impl<T: JsonSchema> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// What `table!` declares.
pub(crate) trait Table: Read {
    /// Reads it where `tag` is a key besides its own: that which told that it is this table.
    fn read_tagged(
        value: &Spanned<DeValue<'_>>,
        key: &str,
        tag: Option<&'static str>,
        reader: &mut Reader,
    ) -> Option<Self>;
}

/// Declares a table: its fields are its keys (`proven_by` is written `proven-by`), and there are no others.
///
/// A field is `Written<T>`, or `Option<Written<T>>` where it may be left out: see [`Field`].
macro_rules! table {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields, rename_all = "kebab-case")]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)+
        }

        impl $crate::written::Read for $name {
            const EXPECTED: &'static str = "a table";

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                key: &str,
                reader: &mut $crate::written::Reader,
            ) -> Option<Self> {
                $crate::written::read::Table::read_tagged(value, key, None, reader)
            }
        }

        impl $crate::written::read::Table for $name {
            fn read_tagged(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                key: &str,
                tag: Option<&'static str>,
                reader: &mut $crate::written::Reader,
            ) -> Option<Self> {
                let names = &[$(stringify!($field)),+];
                let mut fields =
                    $crate::written::read::Fields::of::<Self>(value, key, names, tag, reader)?;
                let table = Self { $($field: fields.field(stringify!($field), reader),)+ };
                fields.finish(reader);
                Some(table)
            }
        }
    };
}
pub(crate) use table;
