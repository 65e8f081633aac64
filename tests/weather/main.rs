//! A run in bad weather: killed, interrupted, without what it needs, beside others. In every case a clear message, a
//! verdict that is not green by mistake, and nothing left behind.

#[cfg(target_os = "linux")]
mod barred;
#[cfg(target_os = "linux")]
mod beside;
#[cfg(target_os = "linux")]
mod interrupted;
#[cfg(target_os = "linux")]
mod killed;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod screen;
#[cfg(target_os = "linux")]
mod streams;
#[cfg(target_os = "linux")]
mod trace;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;
#[cfg(target_os = "linux")]
mod writing;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([
        barred::trials(),
        beside::trials(),
        interrupted::trials(),
        killed::trials(),
        limits::trials(),
        streams::trials(),
        writing::trials(),
    ])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
