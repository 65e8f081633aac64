//! Probes: what they are, how they are found, judged and run.

pub mod definition;
pub mod outcome;
pub mod verdict;

pub mod attempt;
pub mod evidence;
mod exec;
pub mod judge;
pub mod run;
