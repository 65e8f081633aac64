//! The system interfaces that have no safe wrapper elsewhere: one small module each. All `unsafe` code of the
//! toolbox is below here.

pub(crate) mod child;
pub(crate) mod children;
pub(crate) mod descriptors;
pub(crate) mod drops;
pub(crate) mod environment;
pub(crate) mod fork;
#[cfg(target_arch = "x86_64")]
pub(crate) mod int80;
pub(crate) mod interface;
pub(crate) mod multicast;
pub(crate) mod namespace;
pub(crate) mod packets;
pub(crate) mod pending;
pub(crate) mod pidfd;
pub(crate) mod reap;
pub(crate) mod socket;
pub(crate) mod terminal;
pub(crate) mod uring;
pub(crate) mod xattr;
