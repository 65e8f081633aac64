//! `ci/leftovers.sh`, which tells what a run leaves behind.

mod script;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([script::trials()]))
}
