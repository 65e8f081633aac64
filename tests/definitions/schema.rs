//! The JSON Schema and the documentation know what the parser knows.

use std::fs;
use std::path::Path;

use claude_bottle::probe::definition::Site;
use claude_bottle::probe::schema;

use crate::{RIGHT, discover, one, shipped_texts, with, without};

#[test]
fn the_schema_is_what_it_was() {
    let schema = serde_json::to_string_pretty(&schema::probe()).unwrap();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(schema) });
}

#[test]
fn the_schema_accepts_what_is_right_and_nothing_else() {
    let schema = schema::probe();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let valid = |text: &str| {
        let json: serde_json::Value = toml::from_str(text).unwrap();
        validator.is_valid(&json)
    };
    for (name, text) in shipped_texts() {
        assert!(valid(&text), "{name}");
    }
    assert!(valid(RIGHT));
    let on = "[on.docker]\nskip = true\nbecause = \"x\"\n";
    assert!(valid(&format!("{RIGHT}{on}")));

    let wrong = [
        format!("colour = 1\n{RIGHT}"),
        RIGHT.replace("method", "metod"),
        without("title"),
        without("expect"),
        with("severity", r#"severity = "bad""#),
        with("proven-by", "proven-by = []"),
        with("proven-by", r#"proven-by = ["a", "a"]"#),
        with("proven-by", r#"proven-by = ["A"]"#),
        with("title", r#"title = " ""#),
        with("title", r#"title = "a\nb""#),
        with("method", r#"method = ["tcp", "icmpp"]"#),
        with("to", r#"to = { site = "bundle", port = 65536 }"#),
        with("to", r#"to = { site = "bundle", port = "gateway", spelled = "a b" }"#),
        with("expect", "expect = \"contained\"\nhow = \"answered\""),
        format!("{RIGHT}{}", on.replace("docker", "dokcer")),
        format!("{RIGHT}{}", on.replace("because", "reference")),
    ];
    for text in wrong {
        assert!(!valid(&text), "{text}");
        assert!(discover(&[("x.toml", text.as_bytes())]).is_err(), "{text}");
    }
}

#[test]
fn the_schema_explains_every_field() {
    fn unexplained(at: &str, schema: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(fields) = schema.get("properties").and_then(|p| p.as_object()) {
            for (name, field) in fields {
                if field.get("description").is_none() {
                    found.push(format!("{at}/{name}"));
                }
            }
        }
        let nested = schema.as_object().into_iter().flatten();
        nested.for_each(|(key, value)| unexplained(&format!("{at}/{key}"), value, found));
    }
    let mut found = Vec::new();
    unexplained("", &schema::probe(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_documentation_names_every_word() {
    fn words(schema: &serde_json::Value, found: &mut Vec<String>) {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        found.extend(
            schema
                .get("properties")
                .and_then(|p| p.as_object())
                .into_iter()
                .flat_map(|p| p.keys().cloned()),
        );
        found.extend(
            schema.get("enum").and_then(|e| e.as_array()).into_iter().flatten().filter_map(text),
        );
        found.extend(schema.get("const").and_then(text));
        schema.as_object().into_iter().flatten().for_each(|(_, value)| words(value, found));
        schema.as_array().into_iter().flatten().for_each(|value| words(value, found));
    }
    let mut every = Vec::new();
    words(&schema::probe(), &mut every);
    every.extend(Site::ALL.iter().flat_map(|site| site.port_names()).map(ToString::to_string));
    assert!(every.len() > 50, "{every:?}");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/probes.md");
    let documentation = fs::read_to_string(path).unwrap();
    every.retain(|word| {
        ["`WORD`", "`[[WORD]]`", "`[WORD.BACKEND]`"]
            .iter()
            .all(|form| !documentation.contains(&form.replace("WORD", word)))
    });
    assert_eq!(every, Vec::<String>::new(), "not in docs/probes.md");
}

#[test]
fn the_example_in_the_documentation_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/probes.md");
    let documentation = fs::read_to_string(path).unwrap();
    let example = documentation.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(one(example).attempts.len(), 1);
}
