//! `claude-bottle completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::print;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claude-bottle completions bash > /etc/bash_completion.d/claude-bottle"
)]
pub(super) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run<C: CommandFactory>(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut command = C::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "claude-bottle", &mut script);
    print::out(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
