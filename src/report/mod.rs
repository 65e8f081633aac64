//! Verdicts as a terminal matrix, JUnit and JSON.
//!
//! | module | what it makes |
//! |---|---|
//! | [`text`] | whatever a guest had a hand in, made harmless |
//! | [`terminal`], [`breaches`], [`canaries`] | the closing matrix for a person |
//! | [`summary`] | what a sandbox of another make lets out, and how to close it |
//! | [`bottles`] | the bottles that are on an engine, and what was cleaned up |
//! | [`explain`] | what was expected beside what was seen |
//! | [`progress`] | what a person sees until then |
//! | [`junit`], [`json`] | the same for machines |
//! | [`markdown`] | a summary for a job or an issue on GitHub |
//! | [`html`] | a page to look at |
//! | [`compare`] | what has changed from one report to the next |
//! | [`tally`] | the counts and the exit code |
//! | [`mod@file`] | a report replaces its predecessor whole or not at all |
//!
//! Everything but [`progress`] and [`mod@file`] takes data and returns text.

pub mod bottles;
pub mod breaches;
pub mod canaries;
pub mod compare;
pub mod explain;
pub mod file;
pub mod html;
pub mod json;
pub mod junit;
mod layout;
pub mod markdown;
pub(crate) mod micros;
pub mod progress;
mod prose;
pub mod summary;
pub mod tally;
pub mod terminal;
pub mod text;

#[cfg(test)]
pub(crate) mod samples;

pub use tally::exit_code;
