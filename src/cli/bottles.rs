//! `claude-bottle ls` and `claude-bottle cleanup`: the bottles that are on this host's engine.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::{Colour, print};
use crate::backend::docker::cleanup::{self, Found, Held};
use crate::backend::docker::{DockerError, Engine};
use crate::host::Host;
use crate::report::bottles::{
    BottleRow, Bottles, Cleaned, Owner, OwnerState, age, render_bottles, render_cleaned,
};
use crate::{error_chain, runtime};

/// The version of what `--json` prints.
const VERSION: u32 = 1;
/// No engine answers.
const NO_ENGINE: u8 = 3;
/// Something could not be removed.
const NOT_REMOVED: u8 = 1;

/// List the bottles on this host's Docker engine: what they hold, their age, and who launched them.
#[derive(Debug, Args)]
#[command(after_help = WHERE)]
pub(super) struct ListArguments {
    /// Print JSON, with the ids of everything that each bottle holds.
    #[arg(long)]
    json: bool,
}

/// Remove what launchers that have ended left on this host's Docker engine.
///
/// Nothing of a launcher that runs is touched, and nothing of one that cannot be told from here: on another machine, or
/// in another PID namespace.
#[derive(Debug, Args)]
#[command(after_help = WHERE)]
pub(super) struct CleanupArguments {
    /// Tell what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

const WHERE: &str = "\
The engine is the one that DOCKER_HOST names. Bottles of namespaces, and private engines, are gone with their launcher \
and never need this.

Exit codes: 0 done; 1 something could not be removed; 3 no engine answers.";

pub(super) fn list(arguments: &ListArguments, colour: Colour) -> anyhow::Result<ExitCode> {
    told(async |engine| {
        let found = cleanup::find(engine, None).await?;
        let bottles = bottles(engine, &found);
        let text = if arguments.json {
            format!("{}\n", serde_json::to_string_pretty(&bottles)?)
        } else {
            render_bottles(&bottles, colour.style(0))
        };
        print::out(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) fn clean(arguments: &CleanupArguments, colour: Colour) -> anyhow::Result<ExitCode> {
    told(async |engine| {
        let found = cleanup::find(engine, None).await?;
        let mut cleaned = Vec::new();
        for one in &found {
            cleaned.push(match one.held() {
                Held::Left if arguments.dry_run => Cleaned::WouldBeRemoved,
                Held::Left => match one.remove(engine).await {
                    Ok(()) => Cleaned::Removed,
                    Err(error) => Cleaned::Failed(error_chain(&error)),
                },
                Held::Live | Held::Undecided(_) => Cleaned::Kept,
            });
        }
        print::out(&render_cleaned(&bottles(engine, &found), &cleaned, colour.style(0)))?;
        let failed = cleaned.iter().any(|done| matches!(done, Cleaned::Failed(_)));
        Ok(if failed { ExitCode::from(NOT_REMOVED) } else { ExitCode::SUCCESS })
    })
}

/// Does `work` with this host's engine; where none answers, tells why.
fn told(work: impl AsyncFnOnce(&Engine) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let done = runtime::make()?.block_on(async {
        let engine = Engine::of_host(&Host::detect()).await?;
        work(&engine).await
    });
    match done {
        Err(error) if error.is::<DockerError>() => {
            print::err(&format!("error: {error:#}"));
            Ok(ExitCode::from(NO_ENGINE))
        }
        done => done,
    }
}

fn bottles(engine: &Engine, found: &[Found]) -> Bottles {
    let now = SystemTime::now();
    let row = |found: &Found| {
        let (state, why) = match found.held() {
            Held::Live => (OwnerState::Runs, None),
            Held::Left => (OwnerState::Ended, None),
            Held::Undecided(why) => (OwnerState::Undecided, Some(why.to_owned())),
        };
        BottleRow {
            name: found.name.as_str().into(),
            owner: Owner { pid: found.pid(), state, why },
            age_s: age(found.created, now),
            containers: found.containers.clone(),
            networks: found.networks.clone(),
            volumes: found.volumes.clone(),
        }
    };
    let engine = engine.endpoint().to_string();
    Bottles { version: VERSION, engine, bottles: found.iter().map(row).collect() }
}
