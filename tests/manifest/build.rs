//! Manifests for tests, built up from one that is right.

use std::path::Path;

use claude_bottle::manifest::{Manifest, ManifestError};
use serde_json::{Value, json};

/// A manifest with one bottle, `box`, and one agent, `smith`.
#[derive(Clone)]
pub(crate) struct Build(Value);

impl Build {
    pub(crate) fn new() -> Self {
        Self(json!({ "bottles": { "box": {} }, "agents": { "smith": { "bottle": "box" } } }))
    }

    /// Sets a key of the bottle.
    pub(crate) fn bottle(self, key: &str, value: Value) -> Self {
        self.set("bottles", "box", key, value)
    }

    /// Sets a key of the agent.
    pub(crate) fn agent(self, key: &str, value: Value) -> Self {
        self.set("agents", "smith", key, value)
    }

    fn set(mut self, kind: &str, name: &str, key: &str, value: Value) -> Self {
        self.0[kind][name][key] = value;
        self
    }

    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    /// As a person would write it.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap()
    }

    #[track_caller]
    pub(crate) fn read(&self) -> Manifest {
        parse(&self.text()).unwrap_or_else(|error| panic!("{error}"))
    }
}

pub(crate) fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(Path::new("claude-bottle.json"), text)
}

/// What is told about a text that is wrong.
#[track_caller]
pub(crate) fn told(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}
