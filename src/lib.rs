//! Launches *bottles*, sandboxes for coding agents, and proves by probing from the inside that their network is
//! closed in the way that their plan says.
//!
//! The map of the crate, from the outside in:
//!
//! | module | what it knows |
//! |---|---|
//! | [`cli`] | one file per subcommand, thin |
//! | [`harness`] | the runners behind `cargo test --test probes` and `--test breaches` |
//! | [`probe`] | definitions, the catalogue, attempts, the judge, the run |
//! | [`breach`] | deliberate misconfigurations that probes must notice |
//! | [`expected`] | what must come of every attempt, derived from the plan alone |
//! | [`bundle`] | what is beside a bottle: who lets what out, and how that is told |
//! | [`canary`] | checks that what others make still is what it was |
//! | [`lab`] | the small world around a bottle under test: sites, witnesses, controls |
//! | [`backend`] | what makes bottles |
//! | [`bottle`] | the handle to one bottle |
//! | [`manifest`] | what a person writes: bottles, and agents that work in them |
//! | [`plan`] | an agent of a manifest, resolved against this host |
//! | [`toolbox`] | the static guest program, embedded in this one |
//! | [`runtime`] | what everything asynchronous runs on |
//! | [`host`], [`teardown`] | what this machine can run; how what was made is undone |
//! | [`written`], [`nearest`] | files that a person wrote: every mistake at its place, and the right word instead |
//! | [`report`] | verdicts as a terminal matrix, JUnit and JSON; progress |
//!
//! Dependencies go one way: `cli, harness → probe → lab, backend → plan, bottle → teardown`. `report` knows verdicts and
//! nothing of backends. The repository's `docs/architecture.md` says how these play together, and why.

#![forbid(unsafe_code)]

pub mod backend;
pub mod bottle;
pub mod breach;
pub mod bundle;
pub mod canary;
pub mod cli;
pub mod expected;
pub mod harness;
pub mod host;
pub mod lab;
pub mod manifest;
pub mod nearest;
pub mod plan;
pub mod probe;
pub mod report;
pub mod runtime;
mod sys;
pub mod teardown;
pub mod toolbox;
pub mod written;

/// An error and all that is behind it, in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Some errors already hold what is behind them.
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
