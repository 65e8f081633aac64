//! Bottles on a real engine; where none answers, each test is ignored with that reason.

mod bottles;
mod system;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    // A test starts this program again, to kill it.
    if let Ok(wanted) = std::env::var(bottles::KILLED) {
        bottles::launcher(&wanted);
        return std::process::ExitCode::SUCCESS;
    }
    trials::run(trials::on_linux([bottles::trials(), system::trials()]))
}

/// Waits for what a test does.
fn wait<T>(work: impl Future<Output = T>) -> T {
    claude_bottle::runtime::make().expect("a runtime").block_on(work)
}
