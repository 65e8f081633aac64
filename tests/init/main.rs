//! The bundle's init: the real toolbox, with real daemons.

mod bundle;
mod supervision;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([supervision::trials()]))
}
