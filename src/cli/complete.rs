//! `claude-bottle completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

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

pub(super) fn run<C: CommandFactory>(arguments: &Arguments) -> ExitCode {
    let mut command = C::command();
    clap_complete::generate(arguments.shell, &mut command, "claude-bottle", &mut std::io::stdout());
    ExitCode::SUCCESS
}
