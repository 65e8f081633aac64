//! Reports that last.

mod reports;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([reports::trials()]))
}
