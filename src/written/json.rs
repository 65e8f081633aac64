//! A JSON document as a TOML document is walked: the same values with the same places, so that one reader does for both.

use jsonc_parser::ast::{ObjectProp, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Problem, Span};

/// JSON as RFC 8259 has it: the parser knows more than that.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The key with which a file names its own schema, for editors.
const SCHEMA: &str = "$schema";

/// Reads a document; else where it is wrong, and what is.
pub(super) fn parse(text: &str) -> Result<Spanned<DeValue<'_>>, (Span, Problem)> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT).map_err(|error| {
        let span = error.range().start..error.range().end;
        let part = text.get(span.clone()).unwrap_or_default().lines().next().unwrap_or_default();
        let at = match part.trim() {
            "" => "the end of the file".to_owned(),
            part => crate::nearest::quote(part),
        };
        let message = lower_case(&error.kind().to_string());
        (span, Problem::Syntax { format: "JSON", at, message })
    })?;
    let value = parsed.value.ok_or_else(|| {
        let (at, message) = ("the end of the file".to_owned(), "there is no value".to_owned());
        (0..0, Problem::Syntax { format: "JSON", at, message })
    })?;
    convert(value, "", true)
}

/// The depth is bounded: the parser refuses what is nested deeper than 512 times.
fn convert<'t>(
    value: Value<'t>,
    key: &str,
    is_root: bool,
) -> Result<Spanned<DeValue<'t>>, (Span, Problem)> {
    let span = value.start()..value.end();
    let converted = match value {
        Value::StringLit(text) => DeValue::String(text.value),
        Value::BooleanLit(truth) => DeValue::Boolean(truth.value),
        Value::NumberLit(number) => match DeValue::parse(number.value) {
            Ok(number) => number.into_inner(),
            Err(error) => {
                let (at, message) = (crate::nearest::quote(number.value), error.message().into());
                return Err((span, Problem::Syntax { format: "JSON", at, message }));
            }
        },
        Value::NullKeyword(_) => {
            let (key, value) = (key.to_owned(), "null".to_owned());
            let expected = "a value; what is not there is left out";
            return Err((span, Problem::BadValue { key, value, expected }));
        }
        Value::Array(array) => {
            let items = array.elements.into_iter().map(|item| convert(item, key, false));
            DeValue::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(object) => {
            let mut table = DeTable::new();
            for ObjectProp { name, value, .. } in object.properties {
                let place = name.start()..name.end();
                let name = name.into_string();
                if is_root && name == SCHEMA {
                    continue;
                }
                let value = convert(value, &name, false)?;
                if table.contains_key(name.as_str()) {
                    let (key, value) = (if key.is_empty() { "the file" } else { key }, name);
                    return Err((place, Problem::Twice { key: key.to_owned(), value }));
                }
                table.insert(Spanned::new(place, name.into()), value);
            }
            DeValue::Table(table)
        }
    };
    // Whatever is missing at the top is missing from the first line on.
    Ok(Spanned::new(if is_root { 0..0 } else { span }, converted))
}

fn lower_case(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
