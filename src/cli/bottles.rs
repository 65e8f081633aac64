//! `claude-bottle ls` and `claude-bottle cleanup`: the bottles that are on this host, on its engine and with smolvm.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::{Colour, print};
use crate::backend::cleanup::{Found, Look};
use crate::backend::docker::owner::Held;
use crate::host::Host;
use crate::report::bottles::{
    BottleRow, Bottles, Cleaned, Owner, OwnerState, age, render_bottles, render_cleaned,
};
use crate::{error_chain, runtime};

/// The version of what `--json` prints.
const VERSION: u32 = 1;
/// No engine answers, or smolvm does not.
const NO_ANSWER: u8 = 3;
/// Something could not be removed.
const NOT_REMOVED: u8 = 1;

/// List the bottles on this host, on its Docker engine and with smolvm: what they hold, their age, and who launched them.
#[derive(Debug, Args)]
#[command(after_help = WHERE)]
pub(super) struct ListArguments {
    /// Print JSON, with the ids of everything that each bottle holds.
    #[arg(long)]
    json: bool,
}

/// Remove what launchers that have ended left on this host's Docker engine and with smolvm.
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
The engine is the one that DOCKER_HOST or the Docker context names; smolvm is looked at where it is on PATH, and tells of this user's machines alone. Bottles \
of namespaces, and private engines, are gone with their launcher and never need this.

Exit codes: 0 done; 1 something could not be removed; 3 no engine answers, or smolvm does not: what the other one has is \
listed, or removed, all the same.";

pub(super) fn list(arguments: &ListArguments, colour: Colour) -> anyhow::Result<ExitCode> {
    looked(async |look| {
        let bottles = bottles(look);
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
    looked(async |look| {
        let mut cleaned = Vec::new();
        for one in &look.found {
            cleaned.push(match one.held() {
                Held::Left if arguments.dry_run => Cleaned::WouldBeRemoved,
                Held::Left => match look.remove(one).await {
                    Ok(()) => Cleaned::Removed,
                    Err(error) => Cleaned::Failed(error_chain(&error)),
                },
                Held::Live | Held::Undecided(_) => Cleaned::Kept,
            });
        }
        print::out(&render_cleaned(&bottles(look), &cleaned, colour.style(0)))?;
        let failed = cleaned.iter().any(|done| matches!(done, Cleaned::Failed(_)));
        Ok(if failed { ExitCode::from(NOT_REMOVED) } else { ExitCode::SUCCESS })
    })
}

/// Does `work` with what is on this host; tells of each place that does not answer.
fn looked(work: impl AsyncFnOnce(&Look) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    runtime::make()?.block_on(async {
        let look = Look::at(&Host::detect()).await;
        for trouble in &look.troubles {
            print::err(&format!("error: {}", error_chain(trouble)));
        }
        let done = if look.engine.is_some() || look.smolvm.is_some() {
            work(&look).await?
        } else {
            ExitCode::SUCCESS
        };
        let is_whole = look.troubles.is_empty() || done != ExitCode::SUCCESS;
        Ok(if is_whole { done } else { ExitCode::from(NO_ANSWER) })
    })
}

fn bottles(look: &Look) -> Bottles {
    let now = SystemTime::now();
    let row = |found: &Found| {
        let (state, why) = match found.held() {
            Held::Live => (OwnerState::Runs, None),
            Held::Left => (OwnerState::Ended, None),
            Held::Undecided(why) => (OwnerState::Undecided, Some(why.to_owned())),
        };
        let on_engine = found.on_engine.clone().unwrap_or_default();
        BottleRow {
            name: found.name.as_str().into(),
            owner: Owner { pid: found.pid(), state, why },
            age_s: age(found.created(), now),
            containers: on_engine.containers,
            networks: on_engine.networks,
            volumes: on_engine.volumes,
            machines: found.machine.iter().map(|machine| machine.name.clone()).collect(),
        }
    };
    Bottles {
        version: VERSION,
        engine: look.engine.as_ref().map(|engine| engine.endpoint().to_string()),
        smolvm: look.smolvm.as_ref().map(|smolvm| smolvm.version().to_string()),
        bottles: look.found.iter().map(row).collect(),
    }
}
