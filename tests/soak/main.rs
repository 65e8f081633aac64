//! Runs in a row, in one process.

mod in_a_row;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([in_a_row::trials()]))
}
