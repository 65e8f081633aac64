//! The page of a real run, in a real browser that has no network at all.

mod browser;
mod keyboard;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([browser::trials(), keyboard::trials()]))
}
