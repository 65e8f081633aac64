//! `claude-bottle probe`.

mod breaches;
mod explain;
mod interrupt;
mod many;
mod selection;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use self::selection::Selection;
use super::Colour;
use crate::backend;
use crate::error_chain;
use crate::probe::outcome::RunOutcome;
use crate::probe::run::{self, Watch};
use crate::report::progress::{Mode, Progress};
use crate::report::{self, exit_code, file, json, junit, terminal};

/// Launch a bottle, probe it from the inside, and tell what it can reach.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that a person sets or does not")]
pub(super) struct Arguments {
    /// Only probes whose name contains one of these.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// The filters are whole names.
    #[arg(long)]
    exact: bool,
    /// Only probes with this tag; `-TAG` leaves those with it out. Can be repeated.
    #[arg(long, value_name = "TAG", allow_hyphen_values = true)]
    tag: Vec<String>,
    /// The backend that makes the bottle. Can be repeated.
    #[arg(long, value_name = "NAME", default_value = "namespace", value_parser = backend_names())]
    backend: Vec<String>,
    /// A folder of probe definitions instead of the built-in ones.
    #[arg(long, value_name = "DIR")]
    probes: Option<PathBuf>,
    /// Make this one hole in the bottle, and tell which probes notice it; `all` makes each in turn, in a bottle of its
    /// own. 0 then means: exactly the declared probes did.
    #[arg(long, value_name = "NAME|all")]
    breach: Option<String>,
    /// Tell for each attempt what the plan lets expect, what was seen, and why; with `--breach`, in the bottles that have
    /// those holes. 0 then means: all came out as expected.
    #[arg(long)]
    explain: bool,
    /// List the probes with their titles, and run none.
    #[arg(long)]
    list: bool,
    /// Write a JUnit report here.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the whole result as JSON here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep bottle and lab after the run, tell how to enter them, and wait for Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Show every attempt and what the run cost; twice: the controls, and what the guest said.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  claude-bottle probe                         every probe, on the embedded backend
  claude-bottle probe loopback -v             one probe, every attempt
  claude-bottle probe --breach all            prove that every probe can fail
  claude-bottle probe --explain               what was expected beside what was seen
  claude-bottle probe --junit report.xml      for a CI dashboard";

fn backend_names() -> clap::builder::PossibleValuesParser {
    backend::NAMES.into()
}

pub(super) fn run(arguments: &Arguments, colour: Colour) -> anyhow::Result<ExitCode> {
    let Some(selection) = Selection::make(arguments)? else {
        return Ok(ExitCode::from(super::USAGE));
    };
    if arguments.list {
        print!("{}", selection.list(&arguments.backend));
        return Ok(ExitCode::SUCCESS);
    }
    let progress = Progress::new(Mode::detect(arguments.quiet));
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let started = SystemTime::now();
    if arguments.explain {
        return explain::run(&runtime, &selection, arguments, colour, progress);
    }
    if let Some(wanted) = &arguments.breach {
        return breaches::run(&runtime, wanted, &selection, arguments, colour, progress);
    }

    let mut runs = Vec::new();
    let mut interrupted = false;
    for name in &arguments.backend {
        let (outcome, cut_short) = on_backend(&runtime, name, &selection, arguments, &progress);
        runs.push(outcome);
        RunOutcome::merge(&mut runs, selection.skipped(name));
        interrupted = cut_short;
        if interrupted {
            break;
        }
    }
    progress.finish();
    print!("{}", terminal::render(&runs, colour.style(arguments.verbose)));
    write_reports(&runs, arguments, started)?;
    if interrupted {
        return Ok(ExitCode::from(interrupt::CODE));
    }
    Ok(ExitCode::from(exit_code(&runs)))
}

/// One run; true if it was interrupted.
fn on_backend(
    runtime: &tokio::runtime::Runtime,
    name: &str,
    selection: &Selection,
    arguments: &Arguments,
    progress: &Progress,
) -> (RunOutcome, bool) {
    let probes = selection.runnable(name);
    let Some(backend) = backend::by_name(name).filter(|_| !probes.is_empty()) else {
        return (RunOutcome::of_skipped(name, Vec::new()), false);
    };
    let keep = interrupt::Keep { wanted: arguments.keep };
    let run = run::run(backend.as_ref(), &probes, None, progress, &keep);
    match runtime.block_on(interrupt::or_interrupted(run)) {
        Some(Ok(outcome)) => (outcome, false),
        Some(Err(error)) => {
            (RunOutcome::launch_failed(name, None, &probes, &error_chain(&error)), false)
        }
        None => (RunOutcome::inconclusive(name, None, &probes, "the run was interrupted"), true),
    }
}

fn write_reports(
    runs: &[RunOutcome],
    arguments: &Arguments,
    started: SystemTime,
) -> anyhow::Result<()> {
    if let Some(path) = &arguments.junit {
        file::write_atomic(path, &junit::to_xml(runs, started))?;
    }
    if let Some(path) = &arguments.json {
        let context = report::json::Context {
            command: std::env::args().collect(),
            started: humantime::format_rfc3339_seconds(started).to_string(),
            host: host_facts(),
        };
        file::write_atomic(path, json::to_json(runs, &context).as_bytes())?;
    }
    Ok(())
}

fn host_facts() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("os".to_owned(), std::env::consts::OS.to_owned()),
    ]);
    if let Ok(kernel) = std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        facts.insert("kernel".to_owned(), kernel.trim().to_owned());
    }
    facts
}

impl Watch for Progress {
    fn phase(&self, name: &str) {
        Progress::phase(self, name);
    }

    fn attempts(&self, done: usize, total: usize) {
        Progress::attempts(self, done as u64, total as u64);
    }
}
