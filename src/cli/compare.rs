//! `claude-bottle compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::probe::reports::read;
use super::{Colour, print};
use crate::report::compare;

/// Tell what has changed between two JSON reports of `probe`. 0: nothing got worse; 1: something leaks or fails that did
/// not; 3: something is no longer known.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The earlier one.
    before: PathBuf,
    /// The later one.
    after: PathBuf,
}

pub(super) fn run(arguments: &Arguments, colour: Colour) -> anyhow::Result<ExitCode> {
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    let changes = compare::compare(&before, &after);
    print::out(&compare::render(&changes, colour.style(0)))?;
    let nothing = after.tally.is_nothing();
    Ok(ExitCode::from(if nothing { 3 } else { compare::exit_code(&changes) }))
}
