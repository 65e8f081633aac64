//! `claude-bottle start`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::print;
use crate::backend::{self, Backend};
use crate::bottle::{Bottle, BottleError, Command};
use crate::bundle::pipelock::Allowlist;
use crate::host::Host;
use crate::manifest::{self, Manifest, ManifestError};
use crate::plan::{self, Facts, Plan, Value};
use crate::{error_chain, runtime};

/// The bottle could not be launched, or its session broke off.
const NO_BOTTLE: u8 = 125;
/// The command could not be executed.
const NOT_EXECUTED: u8 = 126;
/// The kernel killed the command, for want of memory.
const KILLED: u8 = 137;
/// There is no such command.
const NOT_FOUND: u8 = 127;
/// `ENOENT`, as Linux counts.
const ENOENT: i32 = 2;

/// Start an agent of the manifest in a bottle, at this terminal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The agent's name in the manifest.
    #[arg(value_name = "AGENT")]
    agent: String,
    /// The manifest; left out, `claude-bottle.json` in this folder or the nearest one above it.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The backend that makes the bottle.
    #[arg(long, value_name = "NAME", default_value = "namespace", value_parser = backend_names())]
    backend: String,
    /// Let nothing out, whatever the manifest allows.
    #[arg(long)]
    offline: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// How a dry run is printed.
    #[arg(long, value_enum, default_value_t, requires = "dry_run", value_name = "FORMAT")]
    format: Format,
    /// Another command than the agent's, without its prompt.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// Everything, for programs.
    Json,
}

const EXAMPLES: &str = "\
Exits as the command does: with its code, or with 128 and the number of the signal that killed it. 125: the bottle could not \
be launched; 126, 127: the command could not be executed, is not there; 2: wrong usage or a wrong manifest.

The command's one way out is a proxy, which HTTP_PROXY and its like name, and which lets through what the manifest allows. What it \
refused is told at the end, on standard error, and which of the daemons beside it did not stay up.

Examples:
  claude-bottle start reviewer                  at work, with what the manifest lets it reach
  claude-bottle start reviewer --dry-run        what would be done
  claude-bottle start reviewer --offline        in a bottle without a way out
  claude-bottle start reviewer --offline -- sh  a shell in the same bottle
  claude-bottle start reviewer --backend docker in a container of the image that the manifest names
  claude-bottle start reviewer --backend smolmachines
                                                in a micro virtual machine of that image";

fn backend_names() -> clap::builder::PossibleValuesParser {
    backend::NAMES.into()
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = match planned(arguments) {
        // Mistakes begin with their place, for editors.
        Err(error) if error.is::<ManifestError>() => {
            print::err(&format!("{error:#}"));
            return Ok(ExitCode::from(super::USAGE));
        }
        planned => planned?,
    };
    let on = |host: &Host| {
        let backend = backend::on(host, &arguments.backend);
        backend.with_context(|| format!("this build has no {} backend", arguments.backend))
    };
    // Nobody is asked for that, an engine least of all.
    let outline = on(&Host::detect_alone())?.outline(&plan).map_err(anyhow::Error::msg)?;
    if arguments.dry_run {
        let told = match arguments.format {
            Format::Text => plan::text::render(&plan, &outline),
            Format::Json => plan::text::json(&plan, &outline),
        };
        print::out(&told)?;
        return Ok(ExitCode::SUCCESS);
    }
    // The embedded backend asks nobody, and where its command is probed in a lab nobody else is to be seen there either.
    let alone = arguments.backend == "namespace";
    let host = if alone { Host::detect_alone() } else { Host::detect() };
    if let Some(why) = backend::lacking_to_start(&host, &arguments.backend) {
        print::err(&format!("error: {why}"));
        return Ok(ExitCode::from(NO_BOTTLE));
    }
    let (backend, command) = (on(&host)?, command(&plan)?);
    Ok(ExitCode::from(runtime::make()?.block_on(started(backend.as_ref(), &plan, command))))
}

/// The plan for what is asked for.
fn planned(arguments: &Arguments) -> anyhow::Result<Plan> {
    let file = match &arguments.manifest {
        Some(file) => file.clone(),
        None => manifest::find(&std::env::current_dir().context("there is no working folder")?)?,
    };
    let mut manifest = Manifest::read(&file)?;
    if !arguments.command.is_empty()
        && let Some(agent) = manifest.agents.get_mut(&arguments.agent)
    {
        agent.command.clone_from(&arguments.command);
        agent.prompt = None;
    }
    let facts = Facts::gather(&manifest);
    let mut plan = plan::resolve(&manifest, &arguments.agent, &facts).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(errors.join("\nerror: "))
    })?;
    if arguments.offline {
        plan.egress = Allowlist::default();
    }
    Ok(plan)
}

/// The command, with the values of its variables: they go to the bottle's session over a socket, and are in no argument,
/// no file and no message.
fn command(plan: &Plan) -> anyhow::Result<Command> {
    let mut command = Command::new(&plan.command[0]).args(&plan.command[1..]).cwd(&plan.folder);
    for (name, value) in &plan.env {
        let value = match value {
            Value::Literal(text) => text.clone(),
            Value::FromHost(from) => std::env::var(from)
                .map_err(|_| anyhow::anyhow!("the variable {from} is not set to a text"))?,
        };
        command = command.env(name, value);
    }
    Ok(command)
}

/// Launches, runs, tears down; the exit code.
async fn started(backend: &dyn Backend, plan: &Plan, command: Command) -> u8 {
    let launched = tokio::select! {
        launched = backend.start(plan) => launched,
        // What was made so far goes with the launch that is dropped.
        number = asked_to_end() => return 128 + number,
    };
    let bottle = match launched {
        Ok(bottle) => bottle,
        Err(error) => {
            print::err(&format!("error: {}", error_chain(&error)));
            return NO_BOTTLE;
        }
    };
    for note in bottle.notes() {
        print::err(&note);
    }
    let copied = tokio::select! {
        copied = copy(bottle.as_ref(), plan) => copied,
        // Once the command runs it is passed on to that.
        number = asked_to_end() => {
            if let Err(error) = bottle.teardown().await {
                print::err(&format!("error: {error}"));
            }
            return 128 + number;
        }
    };
    let worked = match copied {
        Ok(()) => bottle.exec_claude(command).await,
        Err(error) => Err(error),
    };
    let code = match worked {
        // A code has eight bits.
        Ok(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        Err(error) => {
            print::err(&format!("error: {}", error_chain(&error)));
            match error {
                BottleError::NotStarted { errno: ENOENT, .. } => NOT_FOUND,
                BottleError::NotStarted { .. } => NOT_EXECUTED,
                BottleError::OutOfMemory => KILLED,
                _ => NO_BOTTLE,
            }
        }
    };
    if let Err(error) = bottle.teardown().await {
        print::err(&format!("error: {error}"));
    }
    for remark in bottle.remarks() {
        print::err(&remark);
    }
    code
}

/// Copies what the plan says into the bottle.
async fn copy(bottle: &dyn Bottle, plan: &Plan) -> Result<(), BottleError> {
    for copy in &plan.copies {
        bottle.cp_in(&copy.from, &copy.to).await?;
    }
    Ok(())
}

/// Waits for a signal that asks to end, and returns its number.
async fn asked_to_end() -> u8 {
    let listen = |kind| signal(kind).ok();
    let (mut interrupt, mut terminate, mut hang_up) = (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        listen(SignalKind::hangup()),
    );
    tokio::select! {
        () = next(&mut hang_up) => 1,
        () = next(&mut interrupt) => 2,
        () = next(&mut terminate) => 15,
    }
}

/// Waits for a signal; for ever, where nobody listens for it: it then ends the program by itself.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
