//! The JSON Schema of definitions, for editors and for those who generate definitions.

use serde_json::Value;

use super::parse::raw;
use crate::written::schema;

/// The JSON Schema (draft 2020-12) of a file in `probes/`.
///
/// It knows every key, what each means and which words it takes. What goes together (`exec` has no `to`; a port has to
/// be one of its site; breaches have to exist) only [`Catalogue::discover`](super::catalogue::Catalogue::discover) knows.
pub fn probe() -> Value {
    schema::of::<raw::Probe>()
}
