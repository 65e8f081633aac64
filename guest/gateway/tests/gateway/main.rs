//! The gateway as a program, with real sockets on loopback.

mod allowed;
mod limits;
mod names;
mod process;
mod program;
mod servers;
mod tunnels;
