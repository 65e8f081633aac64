//! `claude-bottle probe --in`, against real sandboxes, and against none at all.

#[cfg(target_os = "linux")]
mod allowed;
#[cfg(target_os = "linux")]
mod bubblewrap;
#[cfg(target_os = "linux")]
mod containers;
#[cfg(target_os = "linux")]
mod lab;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod nothing;
#[cfg(target_os = "linux")]
mod ssh;
#[cfg(target_os = "linux")]
mod stopped;
#[cfg(target_os = "linux")]
mod strange;
#[cfg(target_os = "linux")]
mod suite;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([
        allowed::trials(),
        bubblewrap::trials(),
        containers::trials(),
        lab::trials(),
        namespaces::trials(),
        nothing::trials(),
        ssh::trials(),
        stopped::trials(),
        strange::trials(),
    ])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
