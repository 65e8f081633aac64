//! `ci/leftovers.sh`, which tells what a run leaves behind.

#[cfg(target_os = "linux")]
mod script;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([script::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
