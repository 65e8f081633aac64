//! `claude-bottle canary`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;
use futures_util::future::join_all;

use super::Colour;
use crate::canary::{self, Canary, CanaryOutcome, Finding, outcome};
use crate::host::Host;
use crate::report::canaries::render_canaries;
use crate::report::{file, junit};

/// Check that what others make, and this project relies on, still is what it was.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only canaries whose name contains one of these.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// The filters are whole names.
    #[arg(long)]
    exact: bool,
    /// A folder of canary definitions instead of the built-in ones.
    #[arg(long, value_name = "DIR")]
    canaries: Option<PathBuf>,
    /// List the canaries with their titles, and run none.
    #[arg(long)]
    list: bool,
    /// Write a JUnit report here.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Say of each what is checked, and why.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "\
Exits with 1 when something has changed, with 3 when something could not be asked or nothing was tried.

Examples:
  claude-bottle canary                        every canary that can run here
  claude-bottle canary toolbox -v             some, and what they are for
  claude-bottle canary --junit canaries.xml   for a scheduled job";

pub(super) fn run(arguments: &Arguments, colour: Colour) -> anyhow::Result<ExitCode> {
    let found = match &arguments.canaries {
        Some(folder) => canary::discover(folder),
        None => canary::embedded(),
    };
    let canaries = match found {
        Ok(canaries) => canaries,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::from(super::USAGE));
        }
    };
    let canaries = canary::select(canaries, &arguments.filters, arguments.exact)?;
    let host = Host::detect();
    if arguments.list {
        print!("{}", list(&canaries, &host));
        return Ok(ExitCode::SUCCESS);
    }
    let started = SystemTime::now();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let outcomes = runtime.block_on(join_all(canaries.iter().map(|canary| checked(canary, &host))));
    print!("{}", render_canaries(&outcomes, colour.style(arguments.verbose)));
    if let Some(path) = &arguments.junit {
        file::write_atomic(path, &junit::canaries_to_xml(&outcomes, started))?;
    }
    Ok(ExitCode::from(outcome::exit_code(&outcomes)))
}

async fn checked(canary: &Canary, host: &Host) -> CanaryOutcome {
    match canary::unmet(canary, host) {
        Some(why) => CanaryOutcome::of(canary, Finding::Skipped { why }),
        None => canary::run(canary, host).await,
    }
}

/// One line per canary; below it why it cannot run, where it cannot.
fn list(canaries: &[Canary], host: &Host) -> String {
    let widest = canaries.iter().map(|canary| canary.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for canary in canaries {
        let _ = writeln!(text, "{:widest$}  {}", canary.name, canary.title);
        if let Some(why) = canary::unmet(canary, host) {
            let _ = writeln!(text, "{:widest$}  not here: {why}", "");
        }
    }
    text
}
