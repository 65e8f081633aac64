//! A run in bad weather: killed, interrupted, without what it needs, beside others. In every case a clear message, a
//! verdict that is not green by mistake, and nothing left behind.

mod barred;
mod beside;
mod interrupted;
mod killed;
mod limits;
mod run;
mod screen;
mod streams;
mod trace;
#[path = "../trials/mod.rs"]
mod trials;
mod writing;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([
        barred::trials(),
        beside::trials(),
        interrupted::trials(),
        killed::trials(),
        limits::trials(),
        streams::trials(),
        writing::trials(),
    ]))
}
