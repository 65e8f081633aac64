//! The bundle's init: the real toolbox, with real daemons.

#[cfg(target_os = "linux")]
mod bundle;
#[cfg(target_os = "linux")]
mod supervision;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([supervision::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
