//! A bottle of the embedded backend: what can be done with it, and the walls around it.

#[cfg(target_os = "linux")]
mod bottle;
#[cfg(target_os = "linux")]
mod commands;
#[cfg(target_os = "linux")]
mod copy;
#[cfg(target_os = "linux")]
mod helper;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod terminal;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;
#[cfg(target_os = "linux")]
mod walls;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    if std::env::var_os(terminal::ASKED).is_some() {
        terminal::the_person();
    }
    trials::run([
        commands::trials(),
        copy::trials(),
        helper::trials(),
        mounts::trials(),
        terminal::trials(),
        walls::trials(),
    ])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
