//! A bottle of the embedded backend: what can be done with it, and the walls around it.

#![cfg(target_os = "linux")]

mod bottle;
mod commands;
mod copy;
mod mounts;
mod terminal;
mod walls;
