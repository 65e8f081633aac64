//! `claude-bottle schema`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::print;
use crate::{canary, manifest, probe, report};

/// Print the JSON Schema of a file format.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The format.
    #[arg(value_enum)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A probe definition, `probes/*.toml`.
    Probe,
    /// A canary definition, `canaries/*.toml`.
    Canary,
    /// A manifest, `claude-bottle.json`.
    Manifest,
    /// A JSON report, `probe --json`.
    Report,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let schema = match arguments.format {
        Format::Probe => probe::schema::probe(),
        Format::Canary => canary::schema::canary(),
        Format::Manifest => manifest::schema(),
        Format::Report => report::json::schema(),
    };
    print::out(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    Ok(ExitCode::SUCCESS)
}
