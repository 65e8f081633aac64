//! smolvm: the real program, as far as it goes without starting a machine; and launches, beside a stand-in, or for real where machines
//! boot: such as are killed, bundles that are published, commands that are started, and machines that are probed.

mod image;
mod killed;
mod place;
mod probed;
mod program;
mod published;
mod site;
mod started;
#[path = "../trials/mod.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    // A test starts this program again, to kill it.
    if let Ok(wanted) = std::env::var(killed::KILLED) {
        killed::launcher(&wanted);
        return std::process::ExitCode::SUCCESS;
    }
    trials::run(trials::on_linux([
        killed::trials(),
        probed::trials(),
        program::trials(),
        published::trials(),
        started::trials(),
    ]))
}
