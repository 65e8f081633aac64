//! Texts that are taken as they are: arguments, and values of variables.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Problem;
use super::read::{Read, Reader};

/// Any text, an empty one as well; without NUL, which neither arguments nor variables can have.
#[derive(Debug)]
pub(crate) struct Literal(pub(crate) String);

impl Read for Literal {
    const EXPECTED: &'static str = "a string";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        let DeValue::String(text) = value.get_ref() else {
            reader.wrong_type::<Self>(value, key);
            return None;
        };
        if text.contains('\0') {
            let (key, value_) = (key.to_owned(), text.to_string());
            let expected = "text without NUL";
            reader.note(value.span(), Problem::BadValue { key, value: value_, expected });
            return None;
        }
        Some(Self(text.to_string()))
    }
}

impl JsonSchema for Literal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Literal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^\\u0000]*$" })
    }
}

/// A program and its arguments, which may repeat.
#[derive(Debug)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl Read for Words {
    const EXPECTED: &'static str = "an array of strings";

    fn read(value: &Spanned<DeValue<'_>>, key: &str, reader: &mut Reader) -> Option<Self> {
        let DeValue::Array(items) = value.get_ref() else {
            reader.wrong_type::<Self>(value, key);
            return None;
        };
        let words = items.iter().map(|item| Literal::read(item, key, reader).map(|word| word.0));
        // Not by `collect::<Option<_>>` at once: every one that is wrong is noted.
        let words: Vec<_> = words.collect();
        let words = words.into_iter().collect::<Option<Vec<_>>>()?;
        if words.first().is_none_or(|program| program.trim().is_empty()) {
            reader.note(value.span(), Problem::Empty { key: key.to_owned() });
            return None;
        }
        Some(Self(words))
    }
}

impl JsonSchema for Words {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let words = generator.subschema_for::<Literal>();
        json_schema!({ "type": "array", "items": words, "minItems": 1 })
    }
}
