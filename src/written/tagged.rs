//! Tables of several kinds, told apart by a key of their own.

use schemars::{Schema, json_schema};
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Problem;
use super::read::{Read, Reader};
use super::values::{Line, text};
use crate::nearest::{Suggestion, UnknownWord};

/// The word of `words` that the key `tag` of a table has. None where it has none of them; the reader has the reason.
///
/// Without it the table's other keys cannot be checked: which are right depends on it.
pub(crate) fn tag<T: Read>(
    value: &Spanned<DeValue<'_>>,
    key: &str,
    tag: &'static str,
    words: &[&'static str],
    reader: &mut Reader,
) -> Option<&'static str> {
    let DeValue::Table(table) = value.get_ref() else {
        reader.wrong_type::<T>(value, key);
        return None;
    };
    let Some(written) = table.get(tag) else {
        let misspelt = table.keys().find_map(|key| {
            let unknown = UnknownWord::new("key", key.get_ref(), [tag]);
            let is_near = matches!(unknown.suggestion, Suggestion::DidYouMean(_));
            is_near.then(|| (key.span(), unknown.into()))
        });
        let missing = || {
            let table = (!key.is_empty()).then(|| key.to_owned());
            (value.span(), Problem::Missing { keys: vec![tag.to_owned()], table })
        };
        let (span, problem) = misspelt.unwrap_or_else(missing);
        reader.note(span, problem);
        return None;
    };
    let word = text::<Line>(written, tag, reader)?;
    let known = words.iter().copied().find(|known| *known == word);
    if known.is_none() {
        let unknown = UnknownWord::new(tag, &word, words.iter().copied());
        reader.note(written.span(), unknown.into());
    }
    known
}

/// The JSON Schema of one kind: that of its table, and the tag.
pub(crate) fn variant(mut table: Schema, tag: &str, word: &str) -> Schema {
    let object = table.ensure_object();
    let constant = json!({ "const": word, "description": format!("Which {tag} it is.") });
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.insert(tag.to_owned(), constant);
    }
    match object.entry("required").or_insert_with(|| json!([])) {
        Value::Array(required) => required.insert(0, tag.into()),
        _ => unreachable!("`required` is a list"),
    }
    table
}

/// The JSON Schema of all kinds.
pub(crate) fn one_of(variants: &[Schema]) -> Schema {
    json_schema!({ "oneOf": variants })
}

/// Declares an enum of tables, one for each word that the key `tag` may have: adding a kind is adding its line and its
/// `table!`.
macro_rules! tagged {
    (
        #[tag($tag:literal)]
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident($table:ty) = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant($table),)+
        }

        impl $crate::written::Read for $name {
            const EXPECTED: &'static str = "a table";

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                key: &str,
                reader: &mut $crate::written::Reader,
            ) -> Option<Self> {
                use $crate::written::read::Table as _;
                match $crate::written::tagged::tag::<Self>(value, key, $tag, &[$($word),+], reader)? {
                    $($word => <$table>::read_tagged(value, key, Some($tag), reader).map(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let variants = [$(
                    $crate::written::tagged::variant(
                        <$table>::json_schema(generator), $tag, $word,
                    )
                ),+];
                $crate::written::tagged::one_of(&variants)
            }
        }
    };
}
pub(crate) use tagged;
