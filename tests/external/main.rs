//! `claude-bottle probe --in`, against real sandboxes, and against none at all.

mod allowed;
mod bubblewrap;
mod containers;
mod lab;
mod namespaces;
mod nothing;
mod own_witness;
mod ssh;
mod stopped;
mod strange;
mod suite;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([
        allowed::trials(),
        bubblewrap::trials(),
        containers::trials(),
        lab::trials(),
        namespaces::trials(),
        nothing::trials(),
        own_witness::trials(),
        ssh::trials(),
        stopped::trials(),
        strange::trials(),
    ]))
}
