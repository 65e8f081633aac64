//! Commands in a bottle, from the launcher's call to the real toolbox's session and back.
//!
//! The session runs as an ordinary child process: nothing here needs namespaces, an engine, or a network.

#![cfg(target_os = "linux")]

mod bottle;
mod copy;
mod faults;
mod flow;
mod run;
mod terminal;
