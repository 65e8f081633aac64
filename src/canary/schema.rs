//! The JSON Schema of canaries, for editors.

use serde_json::Value;

use super::parse::raw;
use crate::written::schema;

/// The JSON Schema (draft 2020-12) of a file in `canaries/`. What it does not know, [`discover`](super::discover)
/// does: that a requirement exists.
pub fn canary() -> Value {
    schema::of::<raw::Canary>()
}
