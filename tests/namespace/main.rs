//! A bottle of the embedded backend: what can be done with it, and the walls around it.

mod bottle;
mod commands;
mod copy;
mod helper;
mod mounts;
mod terminal;
#[path = "../trials/mod.rs"]
mod trials;
mod walls;

fn main() -> std::process::ExitCode {
    if std::env::var_os(terminal::ASKED).is_some() {
        terminal::the_person();
    }
    trials::run(trials::on_linux([
        commands::trials(),
        copy::trials(),
        helper::trials(),
        mounts::trials(),
        terminal::trials(),
        walls::trials(),
    ]))
}
