//! Bottles on a real engine: what keeps them in, what they have beside them, and what happens when something goes wrong.

mod bad_weather;
mod containment;
mod pair;
mod private;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    // A test starts this program again, to kill it.
    if std::env::var_os(bad_weather::KILLED).is_some() {
        bad_weather::launcher();
    }
    trials::run(trials::on_linux([
        bad_weather::trials(),
        containment::trials(),
        pair::trials(),
        private::trials(),
    ]))
}
