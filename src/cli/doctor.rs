//! `claude-bottle doctor`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::{Colour, print};
use crate::host::{Host, Requirements, doctor};

/// Nothing to choose.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 when the embedded default backend can run here, else with 3.")]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments, colour: Colour) -> anyhow::Result<ExitCode> {
    let mut host = Host::detect();
    if let Ok(smolvm) = &mut host.smolvm {
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        // Without an answer the path alone is told.
        let _ = runtime.block_on(smolvm.ask_version());
    }
    print::out(&doctor(&host, colour.on_stdout()))?;
    let ready = Requirements::for_backend("namespace").unmet(&host).is_empty();
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
