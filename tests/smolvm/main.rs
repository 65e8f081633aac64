//! The real smolvm, as far as it goes without starting a machine.

#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([program::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
