//! The command line of smolvm, whose releases differ in it.

pub mod arguments;
pub mod reply;
pub mod version;
