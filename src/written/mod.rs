//! Files that a person wrote in TOML, read so that every mistake is named at its place.
//!
//! serde stops at the first mistake and knows no place once a value has its type. Here a document is walked instead:
//! whatever is wrong is noted with its place, the rest is still read, and all mistakes come out together. Tables are
//! declared once, with `table!` (and `tagged!` where a key tells which table it is): the fields, what they mean (which
//! the JSON Schema tells as well) and whether they are required.
//!
//! | module | what it knows |
//! |---|---|
//! | [`mistake`] | what can be wrong, and how it is shown: file, line, column, the line itself and a caret |
//! | `read` | walking a document: tables, keys that exist, keys that are required |
//! | `json` | a JSON document as one of TOML, for the same walk |
//! | `values` | the values that fields have: text, names, ports, one or many |
//! | `named`, `verbatim` | tables whose keys a person chooses, short forms, counts; texts that are taken as they are |
//! | `tagged` | tables of several kinds, told apart by a tag |
//! | `words` | enums whose variants are words |
//! | [`errors`], `folder` | a folder of definitions, and all that is wrong in any of its files |
//! | `schema` | the JSON Schema of a file |

pub mod errors;
pub(crate) mod folder;
mod json;
pub mod mistake;
pub(crate) mod named;
pub(crate) mod read;
pub(crate) mod schema;
pub(crate) mod tagged;
pub(crate) mod values;
pub(crate) mod verbatim;
pub(crate) mod words;

pub use mistake::{Mistake, Problem};
pub(crate) use read::{At, Read, Reader, table};
pub(crate) use words::{Word, words};
