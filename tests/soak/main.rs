//! Runs in a row, in one process.

#[cfg(target_os = "linux")]
mod in_a_row;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([in_a_row::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
