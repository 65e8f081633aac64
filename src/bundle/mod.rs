//! What is beside a bottle, at the one address that it reaches.
//!
//! | module | what it knows |
//! |---|---|
//! | [`pipelock`] | what may leave, and the configuration that says so |

pub mod pipelock;
