//! The JSON Schema and the documentation know what the parser knows.

use std::fs;
use std::path::Path;

use claude_bottle::manifest::schema;
use serde_json::{Value, json};

use crate::build::{Build, parse};

fn documentation() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.md")).unwrap()
}

#[test]
fn it_is_what_it_was() {
    let schema = serde_json::to_string_pretty(&schema()).unwrap();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(schema) });
}

#[test]
fn it_accepts_what_is_right_and_nothing_else() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let documentation = documentation();
    let example = documentation.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let right = [
        Build::new().value().clone(),
        serde_json::from_str(example).unwrap(),
        json!({ "$schema": "./schema.json", "bottles": {}, "agents": {} }),
    ];
    for value in right {
        assert!(validator.is_valid(&value), "{value:#}");
        parse(&value.to_string()).unwrap_or_else(|error| panic!("{error}"));
    }
    let new = Build::new;
    let wrong = [
        json!({}),
        new().bottle("colour", json!(1)).value().clone(),
        new().bottle("runtime", json!("kata")).value().clone(),
        new().bottle("env", json!({ "A-B": "" })).value().clone(),
        new().bottle("env", json!({ "A": { "form": "A" } })).value().clone(),
        new().bottle("egress", json!(["a b"])).value().clone(),
        new().bottle("egress", json!([{ "host": "a.test", "ports": [70_000] }])).value().clone(),
        new().bottle("limits", json!({ "cpus": 0 })).value().clone(),
        new().bottle("mounts", json!([{ "source": ".", "target": "work" }])).value().clone(),
        new().agent("command", json!([])).value().clone(),
        new().agent("prompt", json!({ "text": "x" })).value().clone(),
        new().agent("bottle", json!(null)).value().clone(),
    ];
    for value in wrong {
        assert!(!validator.is_valid(&value), "{value:#}");
        parse(&value.to_string()).expect_err(&value.to_string());
    }
}

#[test]
fn every_field_is_explained() {
    fn fields(schema: &Value, found: &mut Vec<(String, bool)>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            let explained = |field: &Value| field.get("description").is_some();
            found.extend(properties.iter().map(|(name, field)| (name.clone(), explained(field))));
        }
        schema.as_object().into_iter().flatten().for_each(|(_, value)| fields(value, found));
        schema.as_array().into_iter().flatten().for_each(|value| fields(value, found));
    }
    let mut found = Vec::new();
    fields(&schema(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    let documentation = documentation();
    for (name, is_explained) in found {
        assert!(is_explained, "{name} has no description in the schema");
        let forms = [format!("`{name}`"), format!("\"{name}\"")];
        assert!(
            forms.iter().any(|form| documentation.contains(form)),
            "{name} in the documentation"
        );
    }
}
