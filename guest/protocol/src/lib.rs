//! The words that the host (`claude-bottle`) and its guest toolbox exchange.
//!
//! Pure data: no I/O besides encoding, no dependency on either side.
//!
//! | module | who speaks | form |
//! |---|---|---|
//! | [`nonce`] | everyone | the token whose arrival at a witness is evidence |
//! | [`prober`] | launcher → prober → launcher | one JSON batch in, JSON lines out |
//! | [`witness`] | launcher ↔ witness | JSON lines |
//! | [`session`] | launcher ↔ the agent inside a bottle | length-prefixed binary frames |
//! | [`daemons`] | launcher and init | the daemons of a bundle, and how they are selected |
//! | [`supervise`] | init → whoever asks | one JSON document |
//! | [`news`] | init → launcher | lines of the bundle's log |
//! | [`gateway`] | launcher → gateway | one JSON document in a file |
//! | [`helper`] | launcher ↔ namespace helper | one JSON message per datagram, descriptors beside it |
//!
//! Whatever comes from inside a bottle is hostile: every reader here is bounded and returns an error
//! instead of panicking.

#![forbid(unsafe_code)]

pub mod daemons;
pub mod gateway;
pub mod helper;
pub mod news;
pub mod nonce;
pub mod prober;
pub mod session;
pub mod supervise;
pub mod witness;

/// The version that both sides must share; a toolbox of another version is refused at the handshake.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub use nonce::Nonce;
