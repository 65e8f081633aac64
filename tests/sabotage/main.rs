//! Runs on the embedded backend that somebody sabotages: the guest, the prober, the witness. Whatever happens, nothing
//! passes by mistake, and a leak that was seen stays one.

mod backend;
mod guest;
mod prober;
#[path = "../weather/trace.rs"]
mod trace;
#[path = "../trials/mod.rs"]
mod trials;
mod witness;

fn main() -> std::process::ExitCode {
    trials::run(trials::on_linux([guest::trials(), prober::trials(), witness::trials()]))
}
