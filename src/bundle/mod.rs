//! What is beside a bottle, at the one address that it reaches.
//!
//! | module | what it knows |
//! |---|---|
//! | [`selection`] | which daemons are run, and which of them lets something out |
//! | [`gateway`] | our own forward proxy: its configuration, its log |
//! | [`pipelock`] | what may leave, and the configuration that says so |
//! | [`watch`], [`refusals`] | what a bundle's log tells |

pub mod gateway;
pub mod pipelock;
pub mod refusals;
pub mod selection;
pub mod watch;
