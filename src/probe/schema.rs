//! The JSON Schema of definitions, for editors and for those who generate definitions.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::parse::raw;

/// The JSON Schema (draft 2020-12) of a file in `probes/`.
///
/// It knows every key, what each means and which words it takes. What goes together (`exec` has no `to`; a port has to
/// be one of its site; breaches have to exist) only [`Catalogue::discover`](super::catalogue::Catalogue::discover) knows.
pub fn probe() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with_transform(RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<raw::Probe>().to_value()
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
