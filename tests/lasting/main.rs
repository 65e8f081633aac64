//! Reports that last.

#[cfg(target_os = "linux")]
mod reports;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([reports::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
