//! `claude-bottle doctor`.

use std::process::ExitCode;

use clap::Args;

use super::{Colour, print};
use crate::host::{Host, Requirements, doctor};

/// Nothing to choose.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 when the embedded default backend can run here, else with 3.")]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments, colour: Colour) -> anyhow::Result<ExitCode> {
    let host = Host::detect();
    print::out(&doctor(&host, colour.on_stdout()))?;
    let ready = Requirements::for_backend("namespace").unmet(&host).is_empty();
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
