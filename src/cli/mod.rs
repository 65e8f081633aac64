//! The command line: one file per subcommand.

mod bottles;
mod cache;
mod canary;
mod compare;
mod complete;
mod doctor;
mod look;
mod print;
mod probe;
mod schema;
mod start;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use self::look::Colour;

/// Launches sandboxes for coding agents and proves, by probing from the inside, that their network is closed.
#[derive(Debug, Parser)]
#[command(name = "claude-bottle", version, propagate_version = true, after_help = EXIT_CODES)]
struct Arguments {
    /// When to use colours. `auto` obeys NO_COLOR and looks at where the text goes.
    #[arg(long, value_enum, default_value_t, global = true, value_name = "WHEN")]
    color: Colour,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all as it should be; 1 a leak, or something that must be reachable is not; 2 wrong usage or a wrong \
definition; 3 inconclusive, nothing ran, or everything was skipped; 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Launch a bottle, probe it from the inside, and tell what it can reach.
    Probe(Box<probe::Arguments>),
    /// Tell what has changed between two JSON reports of `probe`.
    Compare(compare::Arguments),
    /// Start an agent of the manifest in a bottle, at this terminal.
    Start(start::Arguments),
    /// List the bottles on this host, on its Docker engine and with smolvm: what they hold, their age, and who launched them.
    Ls(bottles::ListArguments),
    /// Remove what launchers that have ended left on this host's Docker engine and with smolvm.
    Cleanup(bottles::CleanupArguments),
    /// Check that what others make, and this project relies on, still is what it was.
    Canary(canary::Arguments),
    /// List or remove the images that were made ready for micro virtual machines.
    Cache(cache::Arguments),
    /// Tell what this machine can run, and why not the rest.
    Doctor(doctor::Arguments),
    /// Print the JSON Schema of a file format.
    Schema(schema::Arguments),
    /// Print a completion script for a shell.
    Completions(complete::Arguments),
}

/// Usage or definition error.
const USAGE: u8 = 2;

/// Runs the command line; the exit code is the process'.
pub fn main() -> ExitCode {
    let Arguments { color, command } = Arguments::parse();
    let done = match command {
        Command::Probe(arguments) => probe::run(&arguments, color),
        Command::Compare(arguments) => compare::run(&arguments, color),
        Command::Start(arguments) => start::run(&arguments),
        Command::Ls(arguments) => bottles::list(&arguments, color),
        Command::Cleanup(arguments) => bottles::clean(&arguments, color),
        Command::Canary(arguments) => canary::run(&arguments, color),
        Command::Cache(arguments) => cache::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments, color),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => complete::run::<Arguments>(&arguments),
    };
    done.unwrap_or_else(|error| {
        print::err(&format!("error: {error:#}"));
        ExitCode::from(USAGE)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
