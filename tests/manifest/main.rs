//! What a person writes: read, found, and every mistake told.

mod build;
#[cfg(target_os = "linux")]
mod gateway;
mod mistakes;
mod plan;
mod reading;
mod schema;
