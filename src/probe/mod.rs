//! Probes: what they are, how they are found, judged and run.

mod action;
pub mod attempt;
pub mod catalogue;
pub mod definition;
pub mod errors;
pub mod evidence;
mod exec;
pub mod flip;
pub mod judge;
pub mod outcome;
pub mod outside;
pub mod parse;
pub mod run;
pub mod schema;
pub mod selection;
pub mod verdict;
