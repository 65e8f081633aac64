//! The command line of smolvm, whose releases differ in it.

pub mod arguments;
pub mod reply;
pub mod run;
pub mod verbs;
pub mod version;

pub use self::verbs::{Smolvm, SmolvmError};
