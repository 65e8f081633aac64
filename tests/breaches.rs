//! Every breach, and the probes that must notice it. See `claude_bottle::harness`.

fn main() -> std::process::ExitCode {
    claude_bottle::harness::breaches()
}
