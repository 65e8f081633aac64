//! The backend of Docker: a bottle and its bundle are containers of an engine.

pub mod private;
