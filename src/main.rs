//! The command line.

fn main() -> std::process::ExitCode {
    claude_bottle::cli::main()
}
