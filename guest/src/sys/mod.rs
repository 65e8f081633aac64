//! The system interfaces that have no safe wrapper elsewhere: one small module each. All `unsafe` code of the
//! toolbox is below here.

pub(crate) mod child;
pub(crate) mod children;
pub(crate) mod descriptors;
pub(crate) mod drops;
pub(crate) mod environment;
pub(crate) mod fork;
pub(crate) mod pending;
pub(crate) mod pidfd;
pub(crate) mod reap;
pub(crate) mod terminal;
