//! Tables whose keys a person chooses, values that have a short form, and whole numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Problem;
use super::read::{At, Read, Reader};

/// What a key must be like.
pub(crate) trait Key: 'static {
    /// In words, for messages.
    const EXPECTED: &'static str;
    /// As a regular expression (ECMA-262).
    const PATTERN: &'static str;

    /// Whether a key is.
    fn is_right(key: &str) -> bool;
}

/// A value for each key.
#[derive(Debug)]
pub(crate) struct Named<K, T>(pub(crate) BTreeMap<String, At<T>>, PhantomData<K>);

impl<K: Key, T: Read> Read for Named<K, T> {
    const EXPECTED: &'static str = "a table";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            reader.wrong_type::<Self>(value, key);
            return None;
        };
        let mut read = BTreeMap::new();
        for (name, value) in table {
            let span = name.span();
            let name = name.get_ref().as_ref();
            if !K::is_right(name) {
                let (key, value) = (key.to_owned(), name.to_owned());
                reader.note(span, Problem::BadValue { key, value, expected: K::EXPECTED });
                continue;
            }
            if let Some(value) = T::read(value, &format!("{key}.{name}"), reader) {
                read.insert(name.to_owned(), At { value, span });
            }
        }
        Some(Self(read, PhantomData))
    }
}

impl<K: Key, T: JsonSchema> JsonSchema for Named<K, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<T>();
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": K::PATTERN },
            "additionalProperties": values,
        })
    }
}

/// A short form, or a table that says more.
#[derive(Debug)]
pub(crate) enum ShortOr<S, T> {
    /// The short form.
    Short(S),
    /// The table.
    Table(T),
}

impl<S: Read, T: Read> Read for ShortOr<S, T> {
    const EXPECTED: &'static str = "a string or a table";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(_) => T::read(value, key, reader).map(Self::Table),
            DeValue::String(_) => S::read(value, key, reader).map(Self::Short),
            _ => {
                reader.wrong_type::<Self>(value, key);
                None
            }
        }
    }
}

impl<S: JsonSchema, T: JsonSchema> JsonSchema for ShortOr<S, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_or_{}", S::schema_name(), T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, table) = (generator.subschema_for::<S>(), generator.subschema_for::<T>());
        json_schema!({ "anyOf": [short, table] })
    }
}

/// A whole number from 1 to `MOST`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count<const MOST: u32>(pub(crate) u32);

impl<const MOST: u32> Read for Count<MOST> {
    const EXPECTED: &'static str = "a whole number";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        let DeValue::Integer(number) = value.get_ref() else {
            reader.wrong_type::<Self>(value, key);
            return None;
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(count) if (1..=MOST).contains(&count) => Some(Self(count)),
            _ => {
                let (key, value_) = (key.to_owned(), number.to_string());
                let expected = if MOST == 65_535 {
                    "a number from 1 to 65535"
                } else {
                    "a number from 1 on, and not that large"
                };
                reader.note(value.span(), Problem::BadValue { key, value: value_, expected });
                None
            }
        }
    }
}

impl<const MOST: u32> JsonSchema for Count<MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Count_to_{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": MOST })
    }
}
