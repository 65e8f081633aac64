//! What is beside a bottle, at the one address that it reaches.
//!
//! | module | what it knows |
//! |---|---|
//! | [`gateway`] | our own forward proxy: its configuration, its log |
//! | [`pipelock`] | what may leave, and the configuration that says so |

pub mod gateway;
pub mod pipelock;
