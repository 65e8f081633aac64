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

use clap::Args;

use tokio::runtime::Runtime;

use self::interrupt::Interrupts;
use self::selection::Selection;
use super::{Colour, print};
use crate::backend::{self, Backend};
use crate::breach::Breach;
use crate::probe::definition::Probe;
use crate::probe::outcome::RunOutcome;
use crate::probe::run::Watch;
use crate::report::progress::{Mode, Progress};
use crate::report::{self, exit_code, file, json, junit, terminal};
use crate::runtime;

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
        print::out(&selection.list(&arguments.backend))?;
        return Ok(ExitCode::SUCCESS);
    }
    let progress = Progress::new(Mode::detect(arguments.quiet));
    let runtime = runtime::make()?;
    let interrupts = Interrupts::listen(&runtime, progress.aside());
    let runner = Runner { runtime: &runtime, interrupts: &interrupts, arguments };
    let started = SystemTime::now();
    if arguments.explain {
        return explain::run(&runner, &selection, colour, progress);
    }
    if let Some(wanted) = &arguments.breach {
        return breaches::run(&runner, wanted, &selection, colour, progress);
    }

    let mut runs = Vec::new();
    // Once interrupted, each is given up as soon as it begins, and the report names its probes.
    for name in &arguments.backend {
        runs.push(runner.on_backend(name, &selection, &progress));
        RunOutcome::merge(&mut runs, selection.skipped(name));
    }
    progress.finish();
    let printed = print::out(&terminal::render(&runs, colour.style(arguments.verbose)));
    // Each that can be had is written, whatever is wrong with the others.
    let written =
        [printed, write_junit(&runs, arguments, started), write_json(&runs, arguments, started)];
    written.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
    if interrupts.interrupted() {
        return Ok(ExitCode::from(interrupt::CODE));
    }
    Ok(ExitCode::from(exit_code(&runs)))
}

/// What a run needs.
struct Runner<'a> {
    runtime: &'a Runtime,
    interrupts: &'a Interrupts,
    arguments: &'a Arguments,
}

impl Runner<'_> {
    /// One run.
    fn on_backend(&self, name: &str, selection: &Selection, progress: &Progress) -> RunOutcome {
        let probes = selection.runnable(name);
        let Some(backend) = backend::by_name(name).filter(|_| !probes.is_empty()) else {
            return RunOutcome::of_skipped(name, Vec::new());
        };
        let run = self.run(backend.as_ref(), &probes, progress);
        run.unwrap_or_else(|| {
            RunOutcome::inconclusive(name, None, &probes, "the run was interrupted")
        })
    }

    /// One run of the sound bottle; none if it was interrupted.
    fn run(
        &self,
        backend: &dyn Backend,
        probes: &[Probe],
        watch: &dyn Watch,
    ) -> Option<RunOutcome> {
        let keep = self.keep();
        let run = many::one(backend, probes, None, watch, &keep);
        self.runtime.block_on(self.interrupts.or_interrupted(run))
    }

    /// One run for each of `breaches`, none of which means a sound bottle; nothing if they were interrupted.
    fn each(
        &self,
        backend: &dyn Backend,
        probes: &[Probe],
        breaches: &[Option<Breach>],
        progress: &Progress,
    ) -> Option<Vec<RunOutcome>> {
        let keep = self.keep();
        let runs = many::each(backend, probes, breaches, progress, &keep);
        self.runtime.block_on(self.interrupts.or_interrupted(runs))
    }

    fn keep(&self) -> interrupt::Keep<'_> {
        interrupt::Keep { wanted: self.arguments.keep, interrupts: self.interrupts }
    }
}

fn write_junit(
    runs: &[RunOutcome],
    arguments: &Arguments,
    started: SystemTime,
) -> anyhow::Result<()> {
    if let Some(path) = &arguments.junit {
        file::write_atomic(path, &junit::to_xml(runs, started))?;
    }
    Ok(())
}

fn write_json(
    runs: &[RunOutcome],
    arguments: &Arguments,
    started: SystemTime,
) -> anyhow::Result<()> {
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
