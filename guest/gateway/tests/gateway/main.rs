//! The gateway as a program, with real sockets on loopback.

mod allowed;
mod limits;
mod names;
mod process;
mod program;
mod servers;
#[path = "../../../../tests/trials/runner.rs"]
mod trials;
mod tunnels;

fn main() -> std::process::ExitCode {
    trials::run([
        allowed::trials(),
        limits::trials(),
        names::trials(),
        process::trials(),
        tunnels::trials(),
    ])
}
