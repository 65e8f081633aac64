//! The values that fields have.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Problem;
use super::read::{At, Read, Reader};
use super::words::Word;
use crate::nearest::UnknownWord;

/// Names, tags and file stems: lower-case words of letters and digits joined by `-`, beginning with a letter.
pub(crate) fn is_kebab_case(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}

/// [`is_kebab_case`] as a regular expression (ECMA-262, which JSON Schema uses).
const KEBAB_CASE: &str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";

/// `GET /_ping` (RFC 9112 §3).
fn is_request_line(text: &str) -> bool {
    text.split_once(' ').is_some_and(|(method, path)| {
        !method.is_empty()
            && method.bytes().all(|b| b.is_ascii_uppercase())
            && path.starts_with('/')
            && path.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// `Metadata: true` (RFC 9112 §5).
fn is_header(text: &str) -> bool {
    text.split_once(": ").is_some_and(|(name, value)| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !value.is_empty()
            && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    })
}

/// Reads a string that is not blank.
pub(crate) fn text<T: Read>(
    value: &Spanned<DeValue<'_>>,
    key: &str,
    reader: &mut Reader,
) -> Option<String> {
    let DeValue::String(text) = value.get_ref() else {
        reader.wrong_type::<T>(value, key);
        return None;
    };
    if text.trim().is_empty() {
        reader.note(value.span(), Problem::Empty { key: key.to_owned() });
        return None;
    }
    Some(text.clone().into_owned())
}

/// Declares a newtype of a string that is not blank, and what else must be true of it.
macro_rules! strings {
    ($($(#[$meta:meta])* $name:ident: $expected:literal, $right:expr, $schema:tt;)+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub(crate) struct $name(pub(crate) String);

        impl $crate::written::Read for $name {
            const EXPECTED: &'static str = "a string";

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                key: &str,
                reader: &mut $crate::written::Reader,
            ) -> Option<Self> {
                let text = $crate::written::values::text::<Self>(value, key, reader)?;
                let right: fn(&str) -> bool = $right;
                if !right(&text) {
                    let key = key.to_owned();
                    let problem =
                        $crate::written::Problem::BadValue { key, value: text, expected: $expected };
                    reader.note(value.span(), problem);
                    return None;
                }
                Some(Self(text))
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    )+};
}
pub(crate) use strings;

strings! {
    /// Text of one or more lines.
    Text: "text", |_| true, { "type": "string", "pattern": "\\S" };
    /// One line of text.
    Line: "one line of printable text",
        |text| !text.chars().any(char::is_control),
        { "type": "string", "pattern": "^[^\\u0000-\\u001f\\u007f]*\\S[^\\u0000-\\u001f\\u007f]*$" };
    /// A name in kebab case: that of a tag, of a breach, of a requirement.
    Name: "lower-case words joined by `-`", is_kebab_case, { "type": "string", "pattern": KEBAB_CASE };
    /// An address or a host's name as a client writes it.
    Spelling: "an address or a name without spaces",
        |text| text.bytes().all(|b| b.is_ascii_graphic()),
        { "type": "string", "pattern": "^[!-~]+$" };
    /// Method and path of an HTTP request.
    RequestLine: "an HTTP method and a path, such as `GET /_ping`",
        is_request_line,
        { "type": "string", "pattern": "^[A-Z]+ /[!-~]*$" };
    /// A header of an HTTP request.
    Header: "a header, such as `Metadata: true`",
        is_header,
        { "type": "string", "pattern": "^[A-Za-z0-9-]+: [ -~]+$" };
}

impl Read for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            reader.wrong_type::<Self>(value, key);
        }
        truth
    }
}

impl<T: Word> Read for T {
    const EXPECTED: &'static str = "a string";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        let text = text::<Self>(value, key, reader)?;
        let word = T::find(&text);
        if word.is_none() {
            reader.note(value.span(), UnknownWord::new(T::WHAT, &text, T::all()).into());
        }
        word
    }
}

/// The JSON Schema of a [`Word`] that has none of its own.
pub(crate) struct OneOf<T>(PhantomData<T>);

impl<T: Word> JsonSchema for OneOf<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::WHAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": T::all().collect::<Vec<_>>() })
    }
}

/// A port: its number, or its name at the site.
#[derive(Debug, Clone)]
pub(crate) struct Port(pub(crate) String);

impl Read for Port {
    const EXPECTED: &'static str = "a port's name or number";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        let DeValue::Integer(number) = value.get_ref() else {
            let name = text::<Self>(value, key, reader)?;
            return Some(Self(name));
        };
        let port = u16::from_str_radix(number.as_str(), number.radix());
        match port {
            Ok(port) if port > 0 => Some(Self(port.to_string())),
            _ => {
                let (key, value_) = (key.to_owned(), number.to_string());
                let expected = "a number from 1 to 65535";
                reader.note(value.span(), Problem::BadValue { key, value: value_, expected });
                None
            }
        }
    }
}

impl JsonSchema for Port {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "pattern": "^[a-z0-9-]+$" },
            { "type": "integer", "minimum": 1, "maximum": u16::MAX },
        ] })
    }
}

/// Reads the items of a list: at least one, none twice. Those that are wrong are left out.
fn items<T: Read>(
    value: &Spanned<DeValue<'_>>,
    key: &str,
    reader: &mut Reader,
) -> Option<Vec<At<T>>> {
    let items = value.get_ref().as_array()?;
    if items.is_empty() {
        reader.note(value.span(), Problem::Empty { key: key.to_owned() });
        return None;
    }
    let mut seen: HashSet<Cow<'_, str>> = HashSet::new();
    let mut read = Vec::with_capacity(items.len());
    for item in items {
        let text: Option<Cow<'_, str>> = match item.get_ref() {
            DeValue::String(text) => Some(Cow::Borrowed(text)),
            DeValue::Integer(number) => Some(number.to_string().into()),
            _ => None,
        };
        if let Some(text) = text
            && !seen.insert(text.clone())
        {
            let (key, value) = (key.to_owned(), text.into_owned());
            reader.note(item.span(), Problem::Twice { key, value });
            continue;
        }
        if let Some(value) = T::read(item, key, reader) {
            read.push(At { value, span: item.span() });
        }
    }
    Some(read)
}

/// A list with something in it, and nothing twice.
#[derive(Debug)]
pub(crate) struct List<T>(pub(crate) Vec<At<T>>);

impl<T: Read> Read for List<T> {
    const EXPECTED: &'static str = "an array";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        if value.get_ref().as_array().is_none() {
            reader.wrong_type::<Self>(value, key);
        }
        items(value, key, reader).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("List_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        json_schema!({ "type": "array", "items": items, "minItems": 1, "uniqueItems": true })
    }
}

/// One value, or a [`List`] of them.
#[derive(Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<At<T>>);

impl<T: Read> Read for OneOrMany<T> {
    const EXPECTED: &'static str = "one value or an array";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        if value.get_ref().as_array().is_some() {
            return items(value, key, reader).map(Self);
        }
        let one = T::read(value, key, reader)?;
        Some(Self(vec![At { value: one, span: value.span() }]))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("One_or_many_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (one, many) = (generator.subschema_for::<T>(), List::<T>::json_schema(generator));
        json_schema!({ "anyOf": [one, many] })
    }
}

/// A list of tables, `[[key]]`.
#[derive(Debug)]
pub(crate) struct Tables<T>(pub(crate) Vec<At<T>>);

impl<T: Read> Read for Tables<T> {
    const EXPECTED: &'static str = "tables under a heading in double brackets, `[[…]]`";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        if value.get_ref().as_array().is_none() {
            reader.wrong_type::<Self>(value, key);
        }
        items(value, key, reader).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Tables<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Tables_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        json_schema!({ "type": "array", "items": items, "minItems": 1 })
    }
}

/// A table per word, `[key.word]`.
#[derive(Debug)]
pub(crate) struct PerWord<K, T> {
    pub(crate) tables: BTreeMap<&'static str, At<T>>,
    words: PhantomData<K>,
}

impl<K: Word, T: Read> Read for PerWord<K, T> {
    const EXPECTED: &'static str = "a table";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            reader.wrong_type::<Self>(value, key);
            return None;
        };
        let mut tables = BTreeMap::new();
        for (word, value) in table {
            let Some(known) = K::find(word.get_ref()) else {
                let unknown = UnknownWord::new(K::WHAT, word.get_ref(), K::all());
                reader.note(word.span(), unknown.into());
                continue;
            };
            let key = format!("{key}.{}", known.word());
            if let Some(read) = T::read(value, &key, reader) {
                tables.insert(known.word(), At { value: read, span: value.span() });
            }
        }
        Some(Self { tables, words: PhantomData })
    }
}

impl<K: Word, T: JsonSchema> JsonSchema for PerWord<K, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_per_{}", T::schema_name(), K::WHAT).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (names, tables) = (OneOf::<K>::json_schema(generator), generator.subschema_for::<T>());
        json_schema!({ "type": "object", "propertyNames": names, "additionalProperties": tables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_method_and_a_path_and_a_header_has_a_name_and_a_value() {
        for right in ["GET /", "PUT /latest/api/token", "GET /a?b=c:d"] {
            assert!(is_request_line(right), "{right}");
        }
        for wrong in ["", "GET", "/", "get /", "GET  /", "GET a", "GET /a b", "GET /\u{e9}"] {
            assert!(!is_request_line(wrong), "{wrong}");
        }
        assert!(is_header("Authorization: Bearer Oracle"));
        for wrong in ["", "Metadata", ": true", "Metadata:true", "A B: c", "A: b\r\nC: d"] {
            assert!(!is_header(wrong), "{wrong}");
        }
    }

    #[test]
    fn kebab_case_is_what_file_names_are_made_of() {
        for right in ["a", "smoke-echo", "ipv6-2", "a-1b"] {
            assert!(is_kebab_case(right), "{right}");
        }
        for wrong in ["", "-", "a-", "-a", "a--b", "A", "1a", "a_b", "a.b", "é", "a b"] {
            assert!(!is_kebab_case(wrong), "{wrong}");
        }
    }
}
