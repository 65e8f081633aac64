//! Verdicts as a terminal matrix, JUnit and JSON.

pub mod json;
pub mod text;
