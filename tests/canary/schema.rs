//! The JSON Schema and the documentation know what the parser knows.

use std::fs;
use std::path::Path;

use claude_bottle::canary::{discover, schema};
use libtest_mimic::Trial;

use crate::trials::trials;
use crate::{TOOL, TOOLBOX, folder, one, shipped_folder};

fn documentation() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/canaries.md")).unwrap()
}

fn the_schema_is_what_it_was() {
    let schema = serde_json::to_string_pretty(&schema::canary()).unwrap();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(schema) });
}

fn the_schema_accepts_what_is_right_and_nothing_else() {
    let validator = jsonschema::validator_for(&schema::canary()).unwrap();
    let valid = |text: &str| {
        let json: serde_json::Value = toml::from_str(text).unwrap();
        validator.is_valid(&json)
    };
    for file in fs::read_dir(shipped_folder()).unwrap() {
        let path = file.unwrap().path();
        assert!(valid(&fs::read_to_string(&path).unwrap()), "{}", path.display());
    }
    assert!(valid(TOOL) && valid(TOOLBOX));

    let wrong = [
        TOOL.replace("kind = \"tool\"\n", ""),
        TOOL.replace("\"tool\"", "\"toolbox\""),
        TOOL.replace("program", "programme"),
        TOOL.replace("\"docker\"", "\"bin/docker\""),
        TOOL.replace("{version}", "version"),
        TOOL.replace("{version}", "{version} {version}"),
        TOOL.replace("\"--cap-drop\"", "\"--cap drop\""),
        TOOLBOX.replace("\"namespace\"", "\"namespaces\""),
        TOOLBOX.to_owned() + "program = \"docker\"\n",
        format!("colour = 1\n{TOOLBOX}"),
    ];
    for text in wrong {
        // What only the parser can tell.
        assert!(!valid(&text) || text.matches("{version}").count() == 2, "{text}");
        assert!(discover(folder(&[("x.toml", &text)]).path()).is_err(), "{text}");
    }
}

fn the_schema_explains_every_field_and_so_does_the_documentation() {
    fn fields(schema: &serde_json::Value, found: &mut Vec<(String, bool)>) {
        if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
            let explained = |field: &serde_json::Value| field.get("description").is_some();
            found.extend(properties.iter().map(|(name, field)| (name.clone(), explained(field))));
        }
        schema.as_object().into_iter().flatten().for_each(|(_, value)| fields(value, found));
        schema.as_array().into_iter().flatten().for_each(|value| fields(value, found));
    }
    let mut found = Vec::new();
    fields(&schema::canary(), &mut found);
    assert!(found.len() > 10, "{found:?}");
    let documentation = documentation();
    for (name, is_explained) in found {
        assert!(is_explained, "{name} has no description in the schema");
        let forms = [format!("`{name}`"), format!("`[{name}]`"), format!("`[[check.{name}]]`")];
        assert!(
            forms.iter().any(|form| documentation.contains(form)),
            "{name} in the documentation"
        );
    }
}

fn the_examples_in_the_documentation_are_right() {
    let documentation = documentation();
    let examples: Vec<&str> = documentation
        .split("```toml\n")
        .skip(1)
        .map(|text| text.split("```").next().unwrap())
        .collect();
    assert_eq!(examples.len(), 4);
    for example in examples {
        one(example);
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        the_schema_is_what_it_was,
        the_schema_accepts_what_is_right_and_nothing_else,
        the_schema_explains_every_field_and_so_does_the_documentation,
        the_examples_in_the_documentation_are_right,
    ]
}
