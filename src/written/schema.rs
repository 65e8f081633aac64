//! The JSON Schema of a file, from the declarations that it is read by.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The JSON Schema (draft 2020-12) of a file whose table is a `T`.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with_transform(RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// TOML has no null: a field that may be left out is a field that is not required, and nothing else.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    for list in ["type", "anyOf"] {
        let Some(Value::Array(choices)) = object.get_mut(list) else {
            continue;
        };
        choices.retain(|choice| *choice != "null" && choice.get("type") != Some(&"null".into()));
        if choices.len() != 1 {
            continue;
        }
        let only = choices.remove(0);
        object.remove(list);
        match only {
            Value::Object(only) => {
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
            word => {
                object.insert(list.to_owned(), word);
            }
        }
    }
}
