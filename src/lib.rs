//! Launches *bottles*, sandboxes for coding agents, and proves by probing from the inside that their network is
//! closed in the way that their plan says.
//!
//! The map of the crate, from the outside in:
//!
//! | module | what it knows |
//! |---|---|
//! | [`cli`] | one file per subcommand, thin |
//! | [`probe`] | definitions, the catalogue, attempts, the judge, the run |
//! | [`breach`] | deliberate misconfigurations that probes must notice |
//! | [`lab`] | the small world around a bottle under test: sites, witnesses, controls |
//! | [`backend`] | what makes bottles |
//! | [`bottle`] | the handle to one bottle |
//! | [`plan`], [`host`], [`teardown`] | what is wanted, what this machine can run, how it is undone |
//! | [`written`], [`nearest`] | files that a person wrote: every mistake at its place, and the right word instead |
//! | [`report`] | verdicts as a terminal matrix, JUnit and JSON |
//!
//! Dependencies go one way: `cli → probe → lab, backend → host, plan, teardown`. `report` knows verdicts and nothing
//! of backends.

#![forbid(unsafe_code)]

pub mod backend;
pub mod bottle;
pub mod breach;
pub mod host;
pub mod lab;
pub mod nearest;
pub mod probe;
pub mod report;
pub mod teardown;
pub mod toolbox;
pub mod written;
