//! Bottles on a real engine: what keeps them in, what they have beside them, and what happens when something goes wrong.

#[cfg(target_os = "linux")]
mod bad_weather;
#[cfg(target_os = "linux")]
mod containment;
#[cfg(target_os = "linux")]
mod pair;
#[cfg(target_os = "linux")]
mod private;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    // A test starts this program again, to kill it.
    if std::env::var_os(bad_weather::KILLED).is_some() {
        bad_weather::launcher();
    }
    trials::run([bad_weather::trials(), containment::trials(), pair::trials(), private::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
