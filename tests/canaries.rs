//! Every canary that this host can run, where `CLAUDE_BOTTLE_RUN_CANARIES=1` is set. See `claude_bottle::harness`.

fn main() -> std::process::ExitCode {
    claude_bottle::harness::canaries()
}
