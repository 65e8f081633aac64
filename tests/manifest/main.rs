//! What a person writes: read, found, and every mistake told.

mod build;
mod mistakes;
mod plan;
mod reading;
mod schema;
