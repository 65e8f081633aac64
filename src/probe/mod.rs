//! Probes: what they are, how they are found, judged and run.

pub mod catalogue;
pub mod definition;
pub mod errors;
pub mod outcome;
pub mod parse;
pub mod schema;
pub mod selection;
pub mod verdict;

pub mod attempt;
pub mod evidence;
mod exec;
pub mod judge;
pub mod run;
