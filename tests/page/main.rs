//! The page of a real run, in a real browser that has no network at all.

#[cfg(target_os = "linux")]
mod browser;
#[cfg(target_os = "linux")]
mod keyboard;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([browser::trials(), keyboard::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
