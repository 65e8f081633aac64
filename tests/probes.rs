//! Every probe on every backend that this host can run. See `claude_bottle::harness`.

fn main() -> std::process::ExitCode {
    claude_bottle::harness::probes()
}
