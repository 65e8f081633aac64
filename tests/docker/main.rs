//! Bottles on a real engine; where none answers, each test is ignored with that reason.

#[cfg(target_os = "linux")]
mod bottles;
#[cfg(target_os = "linux")]
mod system;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    // A test starts this program again, to kill it.
    if let Ok(wanted) = std::env::var(bottles::KILLED) {
        bottles::launcher(&wanted);
        return std::process::ExitCode::SUCCESS;
    }
    trials::run([bottles::trials(), system::trials()])
}

/// Waits for what a test does.
#[cfg(target_os = "linux")]
fn wait<T>(work: impl Future<Output = T>) -> T {
    claude_bottle::runtime::make().expect("a runtime").block_on(work)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
