//! A run in bad weather: killed, interrupted, without what it needs, beside others. In every case a clear message, a
//! verdict that is not green by mistake, and nothing left behind.

#![cfg(target_os = "linux")]

mod barred;
mod beside;
mod interrupted;
mod killed;
mod limits;
mod run;
mod screen;
mod streams;
mod trace;
mod writing;
