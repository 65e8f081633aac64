//! `claude-bottle probe`.

mod breaches;
mod explain;
mod external;
mod interrupt;
mod many;
pub(super) mod reports;
mod selection;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;

use tokio::runtime::Runtime;

use self::interrupt::Interrupts;
use self::reports::Reports;
use self::selection::Selection;
use super::{Colour, print};
use crate::backend::{self, Backend};
use crate::breach::Breach;
use crate::host::EngineKind;
use crate::probe::definition::Probe;
use crate::probe::outcome::RunOutcome;
use crate::probe::run::Watch;
use crate::report::json::Report;
use crate::report::progress::{Mode, Progress};
use crate::report::{self, compare, exit_code, terminal};
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
    /// Only probes with this tag; `-TAG` leaves those with it out: `--tag=-slow`. Can be repeated.
    #[arg(long, value_name = "TAG", allow_hyphen_values = true)]
    tag: Vec<String>,
    /// The backend that makes the bottle. Can be repeated.
    #[arg(long, value_name = "NAME", default_value = "namespace", value_parser = backend_names())]
    backend: Vec<String>,
    /// The engine for the backends `docker` and `smolmachines`: one of the run's own, or the machine's, with fewer sites. Left out, what
    /// CLAUDE_BOTTLE_DOCKER_ENGINE says; else a private one where it can be had, which takes root and dockerd.
    #[arg(long, value_name = "KIND", value_parser = engine_kinds())]
    engine: Option<String>,
    /// Probe the sandbox that this command runs programs in. `{toolbox}` in it is replaced by the path of the prober,
    /// `{dir}` by a folder that holds it as `toolbox`; without either it is sent to a shell in there. Split into words
    /// as a shell would; no shell runs it.
    #[arg(long = "in", value_name = "COMMAND", conflicts_with_all = ["backend", "breach", "explain", "keep"])]
    into: Option<backend::external::SandboxCommand>,
    /// What that sandbox must reach: a row of its own. An address that this machine has, or with --lab one of the lab's; `/udp`
    /// behind it for UDP. Can be repeated.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "into")]
    allow: Vec<backend::external::Allowed>,
    /// Run the whole command on a stand-in host with a world around it (internet, metadata, neighbours), so that nearly every
    /// probe can be tried. Needs root or user namespaces; not for engines whose daemon makes the sandbox.
    #[arg(long, requires = "into")]
    lab: bool,
    /// How long the prober may take to answer from inside: 60s, unless this says otherwise.
    #[arg(long, value_name = "TIME", requires = "into", value_parser = humantime::parse_duration)]
    patience: Option<std::time::Duration>,
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
    #[command(flatten)]
    reports: Reports,
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
  claude-bottle probe --in 'bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --tmpfs /run --unshare-net'
                                              a sandbox of another make
  claude-bottle probe --junit report.xml      for a CI dashboard
  claude-bottle probe --json today.json --baseline yesterday.json
                                              fail only on what got worse";

impl Arguments {
    /// Whether some probes are meant, and not all.
    fn selects(&self) -> bool {
        !self.filters.is_empty() || !self.tag.is_empty()
    }

    /// What a person reads of `runs`: of a sandbox of another make, in plain language first.
    fn render(&self, runs: &[RunOutcome], style: terminal::Style) -> String {
        if self.into.is_some() {
            let told: String = runs.iter().map(|run| report::summary::render(run, style)).collect();
            let every =
                if self.verbose > 0 { terminal::render(runs, style) } else { String::new() };
            return told + &every;
        }
        terminal::render(runs, style)
    }
}

fn engine_kinds() -> clap::builder::PossibleValuesParser {
    EngineKind::WORDS.into()
}

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
    let baseline = arguments.reports.baseline()?;
    let progress = Progress::new(Mode::detect(arguments.quiet));
    let runtime = runtime::make()?;
    let interrupts = Interrupts::listen(&runtime, progress.aside());
    let runner = Runner { runtime: &runtime, interrupts: &interrupts, arguments };
    let started = SystemTime::now();
    if arguments.explain {
        return explain::run(&runner, &selection, colour, progress);
    }
    if let Some(wanted) = &arguments.breach {
        return breaches::run(&runner, wanted, &selection, colour, progress, started);
    }

    let runs = runner.wanted(&selection, &progress)?;
    progress.finish();
    let style = colour.style(arguments.verbose);
    let mut text = arguments.render(&runs, style);
    let code = exit_code(&runs);
    let report = Report::of(&runs, &reports::context(started), code, |_, _, _| false);
    let changes = baseline.map(|mut baseline| {
        if arguments.selects() {
            compare::keep_only(&mut baseline, &report);
        }
        compare::compare(&baseline, &report)
    });
    if let Some(changes) = &changes {
        text += "\nsince the baseline\n";
        text += &compare::render(changes, style);
    }
    let printed = print::out(&text);
    let written = arguments.reports.write(&report, changes.as_deref(), &runs, started);
    printed.and(written)?;
    Ok(ExitCode::from(match changes {
        _ if interrupts.interrupted() => interrupt::CODE,
        // Where nothing was tried nothing can be told to be no worse.
        Some(_) if report.tally.is_nothing() => code,
        Some(changes) => compare::exit_code(&changes),
        None => code,
    }))
}

/// What a run needs.
struct Runner<'a> {
    runtime: &'a Runtime,
    interrupts: &'a Interrupts,
    arguments: &'a Arguments,
}

impl Runner<'_> {
    /// A run on each backend that was asked for, or in the sandbox of another make.
    fn wanted(
        &self,
        selection: &Selection,
        progress: &Progress,
    ) -> anyhow::Result<Vec<RunOutcome>> {
        if let Some(command) = &self.arguments.into {
            return external::run(self, command, selection, progress);
        }
        let mut runs = Vec::new();
        // Once interrupted, each is given up as soon as it begins, and the report names its probes.
        for name in &self.arguments.backend {
            runs.push(self.on_backend(name, selection, progress));
            RunOutcome::merge(&mut runs, selection.skipped(name));
        }
        Ok(runs)
    }

    /// One run.
    fn on_backend(&self, name: &str, selection: &Selection, progress: &Progress) -> RunOutcome {
        let probes = selection.runnable(name);
        let Some(mut backend) = selection.backend(name).filter(|_| !probes.is_empty()) else {
            return RunOutcome::of_skipped(name, Vec::new());
        };
        if self.arguments.verbose > 0 {
            let aside = progress.aside();
            backend.tell(Arc::new(move |line| aside.say(line)));
        }
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

impl Watch for Progress {
    fn phase(&self, name: &str) {
        Progress::phase(self, name);
    }

    fn attempts(&self, done: usize, total: usize) {
        Progress::attempts(self, done as u64, total as u64);
    }
}
