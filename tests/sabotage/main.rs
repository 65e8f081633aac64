//! Runs on the embedded backend that somebody sabotages: the guest, the prober, the witness. Whatever happens, nothing
//! passes by mistake, and a leak that was seen stays one.

#[cfg(target_os = "linux")]
mod backend;
#[cfg(target_os = "linux")]
mod guest;
#[cfg(target_os = "linux")]
mod prober;
#[cfg(target_os = "linux")]
#[path = "../weather/trace.rs"]
mod trace;
#[cfg(target_os = "linux")]
#[path = "../trials/mod.rs"]
mod trials;
#[cfg(target_os = "linux")]
mod witness;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    trials::run([guest::trials(), prober::trials(), witness::trials()])
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("not run: needs linux");
}
