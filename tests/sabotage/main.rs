//! Runs on the embedded backend that somebody sabotages: the guest, the prober, the witness. Whatever happens, nothing
//! passes by mistake, and a leak that was seen stays one.

#![cfg(target_os = "linux")]

mod backend;
mod guest;
mod prober;
#[path = "../weather/trace.rs"]
mod trace;
mod witness;
