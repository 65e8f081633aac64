//! smolvm: the real program, as far as it goes without starting a machine; and launches, beside a stand-in, or for real where machines
//! boot: such as are killed, bundles that are published, and commands that are started.

#[cfg(target_os = "linux")]
mod image;
#[cfg(target_os = "linux")]
mod killed;
#[cfg(target_os = "linux")]
mod place;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod published;
#[cfg(target_os = "linux")]
mod site;
#[cfg(target_os = "linux")]
mod started;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    // A test starts this program again, to kill it.
    if let Ok(wanted) = std::env::var(killed::KILLED) {
        killed::launcher(&wanted);
        return std::process::ExitCode::SUCCESS;
    }
    trials::run([killed::trials(), program::trials(), published::trials(), started::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
